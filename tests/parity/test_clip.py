"""CLIP against transformers, by way of the folders that it writes and that it reads."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from dalle3_jax import convert
from dalle3_jax.evaluation.clip_score import ClipScorer
from tests.parity import references
from tests.tiny import clip_files

pytestmark = pytest.mark.network("CLIP text", "transformers CLIPTextModel")

END = 59
IDS = np.array([[58, *range(3, 11), END], [58, 7, 30, END, END, END, END, END, END, END], [58, END, *[0] * 8]])
MASK = np.arange(10) < np.array([10, 4, 2])[:, None]

TEXTS = {
    "openai": {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2, "eos_token_id": 2},
    "openclip": {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3, "hidden_act": "gelu"},
    "one_layer": {"hidden_size": 15, "num_attention_heads": 3, "num_hidden_layers": 1, "layer_norm_eps": 1e-3},
    "odd_heads": {"hidden_size": 14, "num_attention_heads": 2, "num_hidden_layers": 2, "hidden_act": "gelu"},
}
VISIONS = {
    "openai": {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2, "image_size": 16, "patch_size": 8},
    "openclip": {
        **{"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "image_size": 15, "patch_size": 4},
        **{"hidden_act": "gelu", "layer_norm_eps": 1e-3},
    },
}


@pytest.fixture
def loaded(tmp_path):
    """loaded(module): what is read from the folder that the module writes."""

    def through_disk(module):
        module.save_pretrained(tmp_path / "theirs")
        return convert.load(tmp_path / "theirs")

    return through_disk


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("projected", [False, True], ids=["plain", "projected"])
def test_text_encoder(name, projected, agree, run, loaded):
    theirs = references.clip_text(TEXTS[name], projected)
    encoder, params = loaded(theirs)
    ours = run(encoder, params, jnp.asarray(IDS), jnp.asarray(MASK))
    expected = theirs(torch.from_numpy(IDS))
    agree(ours.tokens, expected.last_hidden_state)
    agree(ours.vector, expected.text_embeds if projected else expected.pooler_output)
    assert ours.mask.all()


def test_padding_of_another_id(agree, run, loaded):
    theirs = references.clip_text(TEXTS["openai"])
    encoder, params = loaded(theirs)
    ours = run(encoder.clone(pad_id=0), params, jnp.asarray(IDS), jnp.asarray(MASK))
    expected = theirs(torch.from_numpy(np.where(MASK, IDS, 0)))
    agree(ours.tokens, expected.last_hidden_state)
    agree(ours.vector, expected.pooler_output)


@pytest.mark.parametrize("skip", [0, 1, 2])
@pytest.mark.parametrize("normed", [False, True], ids=["raw", "normed"])
def test_features_of_an_earlier_layer(skip, normed, agree, run, loaded):
    theirs = references.clip_text(TEXTS["openclip"], projected=True)
    encoder, params = loaded(theirs)
    ours = run(encoder.clone(skip=skip, normed=normed), params, jnp.asarray(IDS), jnp.asarray(MASK))
    expected = theirs(torch.from_numpy(IDS), output_hidden_states=True)
    hidden = expected.hidden_states[-1 - skip]
    agree(ours.tokens, theirs.text_model.final_layer_norm(hidden) if normed else hidden)
    agree(ours.vector, expected.text_embeds)


def test_an_end_token_that_is_not_the_largest_id(agree, run, loaded):
    theirs = references.clip_text({**TEXTS["openclip"], "eos_token_id": 30})
    encoder, params = loaded(theirs)
    ids = np.array([[58, 30, 59, 30, 4], [58, 7, 8, 30, 30]])
    ours = run(encoder, params, jnp.asarray(ids), jnp.ones(ids.shape, bool))
    agree(ours.vector, theirs(torch.from_numpy(ids)).pooler_output)


def both(name: str, **more) -> transformers.CLIPModel:
    return references.clip({**TEXTS[name], **more}, VISIONS[name])


def images(theirs: transformers.CLIPModel) -> np.ndarray:
    side = theirs.config.vision_config.image_size
    return np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)


@pytest.mark.network("CLIP", "transformers CLIPModel")
@pytest.mark.parametrize("name", VISIONS)
def test_both_towers(name, agree, run, loaded):
    theirs = both(name)
    clip, params = loaded(theirs)
    pictures = images(theirs)
    text = jnp.asarray(IDS), jnp.asarray(MASK)
    expected = theirs(torch.from_numpy(IDS), torch.from_numpy(pictures.transpose(0, 3, 1, 2)), torch.from_numpy(MASK))
    agree(run(clip, params, *text, jnp.asarray(pictures)), expected.logits_per_text)
    agree(clip.apply({"params": params}, *text, method="encode_text"), expected.text_embeds)
    agree(clip.apply({"params": params}, jnp.asarray(pictures), method="encode_image"), expected.image_embeds)


CLASSES = {
    "plain": lambda: references.clip_text(TEXTS["openai"]),
    "projected": lambda: references.clip_text(TEXTS["odd_heads"], projected=True),
    "both": lambda: both("openclip"),
}


@pytest.mark.parametrize("name", CLASSES)
def test_what_we_write_is_what_transformers_reads(name, tmp_path, loaded):
    theirs = CLASSES[name]()
    module, params = loaded(theirs)
    convert.save(tmp_path / "ours", module, params)
    again, report = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    expected = theirs.state_dict()
    assert set(again.state_dict()) == set(expected)
    for key, value in again.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0)
    text = again.config.text_config if name == "both" else again.config
    assert text.eos_token_id == (2 if name == "plain" else END)


@pytest.mark.network("CLIP", "transformers CLIPModel")
def test_scores_of_pictures_of_any_shape(tmp_path, agree):
    """The whole way: the processor's resizing, cropping and normalising, its tokenizer, both towers."""
    theirs = both("openai", vocab_size=520, eos_token_id=519)
    theirs.save_pretrained(tmp_path)
    for name, text in zip(("vocab.json", "merges.txt"), clip_files(), strict=True):
        (tmp_path / name).write_text(text, encoding="utf-8")
    prepare = CLIPImageProcessorPil(size={"shortest_edge": 19}, crop_size={"height": 16, "width": 16})
    prepare.save_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    shapes, prompts = [(40, 64), (16, 16), (33, 12), (21, 27)], ["a cat", "The cat's!!", "", "the cat " * 9]
    pictures = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]

    scorer = ClipScorer.load(tmp_path)
    tokens = transformers.CLIPTokenizer.from_pretrained(tmp_path)(
        prompts, padding="max_length", max_length=12, truncation=True, return_tensors="pt"
    )
    pixels = prepare([Image.fromarray(picture) for picture in pictures], return_tensors="pt")["pixel_values"]
    for picture, expected in zip(pictures, pixels, strict=True):
        seen = (scorer.preprocess(picture) / 255 - scorer.preprocess.mean) / scorer.preprocess.std
        agree(seen.transpose(2, 0, 1), expected, limit=1e-6)
    out = theirs(**tokens, pixel_values=pixels)
    agree(scorer.scores(pictures, prompts), 100 * (out.text_embeds * out.image_embeds).sum(-1))
