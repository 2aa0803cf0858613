"""The CLIP score is the cosine of each picture with its own prompt, whatever stands beside them."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dalle3_jax import convert
from dalle3_jax.evaluation.clip_score import BATCH, ClipPreprocessor, ClipScorer
from dalle3_jax.models.clip import CLIP, CLIPTextEncoder, Tower
from tests.networks import normal, randomised
from tests.tiny import clip_files

MODULE = CLIP(
    *(Tower(8, 1, 2, 12), Tower(12, 1, 3, 20)), vocab_size=520, projection=6, positions=9, image_size=8, patch=4
)
PROMPTS = ["a cat", "the cat's", "", "a cat the cat a cat the cat a cat the cat"]


def picture(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def put_tokenizer(folder: Path) -> None:
    for name, text in zip(("vocab.json", "merges.txt"), clip_files(), strict=True):
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("clip") / "tiny"
    params = randomised(MODULE, jnp.zeros((1, 9), int), jnp.ones((1, 9), bool), normal(1, 8, 8, 3))
    convert.save(made, MODULE, params)
    put_tokenizer(made)
    return made


@pytest.fixture(scope="module")
def scorer(folder) -> ClipScorer:
    return ClipScorer.load(folder)


def test_a_score_is_a_hundred_cosines(scorer):
    images = np.stack([picture(seed) for seed in range(4)])
    normalised = (images / 255 - np.array([0.48145466, 0.4578275, 0.40821073])) / [0.26862954, 0.26130258, 0.27577711]
    weights = {"params": scorer.params}
    apply = jax.jit(MODULE.apply, static_argnames="method")
    texts = apply(weights, *map(jnp.asarray, scorer.tokenizer(PROMPTS, 9)), method="encode_text")
    seen = apply(weights, jnp.asarray(normalised, jnp.float32), method="encode_image")
    np.testing.assert_allclose(scorer.scores(images, PROMPTS), 100 * np.sum(texts * seen, axis=-1), atol=1e-3)


def test_a_pair_has_the_same_score_whatever_stands_beside_it(scorer):
    images = [picture(seed) for seed in range(BATCH + 3)]
    prompts = [PROMPTS[i % 4] for i in range(BATCH + 3)]
    together = scorer.scores(images, prompts)
    assert together.shape == (BATCH + 3,)
    assert np.std(together) > 0.1
    for i in (0, 5, BATCH - 1, BATCH, BATCH + 2):
        np.testing.assert_allclose(scorer.scores([images[i]], [prompts[i]]), together[i : i + 1], atol=1e-4)
    assert scorer.scores([], []).shape == (0,)


def test_pictures_are_arrays_or_of_pillow(scorer):
    images = [picture(0, 20, 13), picture(1, 9, 30)]
    arrays = scorer.scores(images, PROMPTS[:2])
    np.testing.assert_array_equal(scorer.scores([Image.fromarray(image) for image in images], PROMPTS[:2]), arrays)


def test_the_centre_is_seen():
    prepare = ClipPreprocessor(shorter=8, side=8)
    wide = picture(0, 8, 14)
    np.testing.assert_array_equal(prepare(wide), wide[:, 3:11])
    tall = picture(1, 11, 8)
    np.testing.assert_array_equal(prepare(tall), tall[1:9])
    assert prepare(picture(2, 24, 16)).shape == (8, 8, 3)
    np.testing.assert_array_equal(
        ClipPreprocessor(shorter=10, side=8)(picture(3, 10, 10)), picture(3, 10, 10)[1:9, 1:9]
    )


def test_the_folder_says_how_pictures_are_prepared(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "clip")
    config = {
        **{"do_resize": True, "size": {"shortest_edge": 12}, "crop_size": {"height": 8, "width": 8}, "resample": 3},
        **{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 1.0], "rescale_factor": 1 / 255},
    }
    (tmp_path / "clip" / "preprocessor_config.json").write_text(json.dumps(config))
    assert ClipScorer.load(tmp_path / "clip").preprocess == ClipPreprocessor(12, 8, (0.5, 0.5, 0.5), (0.25, 0.5, 1.0))
    assert ClipPreprocessor.of({"size": 8, "crop_size": 8}, 8) == ClipPreprocessor.of({}, 8) == ClipPreprocessor(8, 8)
    wrong = {"size": {"height": 8, "width": 8}, "crop_size": {"height": 8, "width": 9}, "resample": 2}
    with pytest.raises(ValueError, match="preprocessor_config") as caught:
        ClipPreprocessor.of({**wrong, "do_center_crop": False}, 8)
    for name in ("size={'height'", "crop_size={'height'", "resample=2", "do_center_crop=False"):
        assert name in str(caught.value)
    for bad in ({"image_mean": 0.5}, {"image_std": [1.0, 0.0, 1.0]}, {"image_mean": ["a", "b", "c"]}, {"size": "big"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ClipPreprocessor.of(bad, 8)


def test_what_cannot_score_is_named(folder, scorer, tmp_path):
    with pytest.raises(ValueError, match="1 pictures and 2 prompts"):
        scorer.scores([picture(0)], ["a", "b"])
    with pytest.raises(ValueError, match="1 pictures and one text"):
        scorer.scores([picture(0)], "a")
    shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("merges.txt"))
    with pytest.raises(ValueError, match=r"both of vocab\.json and merges\.txt"):
        ClipScorer.load(tmp_path / "bare")
    text = CLIPTextEncoder(520, 8, 1, 2, 12)
    convert.save(tmp_path / "text", text, randomised(text, jnp.zeros((1, 9), int), jnp.ones((1, 9), bool)))
    put_tokenizer(tmp_path / "text")
    with pytest.raises(ValueError, match="holds a CLIPTextEncoder"):
        ClipScorer.load(tmp_path / "text")


def test_a_tokenizer_with_more_ids_than_the_network_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "clip")
    vocab = json.loads((tmp_path / "clip" / "vocab.json").read_text())
    (tmp_path / "clip" / "vocab.json").write_text(json.dumps({**vocab, "zzz": 520}))
    with pytest.raises(ValueError, match="521 ids, the network 520"):
        ClipScorer.load(tmp_path / "clip")
