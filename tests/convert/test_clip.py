"""CLIP's tables fit the full-size lists of public tensors, and its configs say what they cannot have."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from dalle3_jax import convert
from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.convert.clip import TEXT, TEXT_WITH_PROJECTION, WHOLE
from dalle3_jax.convert.rules import export_moves, import_moves, matches
from dalle3_jax.models.clip import CLIP, CLIPTextEncoder, Tower
from tests.networks import randomised

KEYS = Path(__file__).parent / "keys"

L_TEXT = {
    **{"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    **{"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1, "projection_dim": 768, "hidden_act": "quick_gelu"},
    **{"attention_dropout": 0.0, "torch_dtype": "float32", "model_type": "clip_text_model", "vocab_size": 49408},
}
H_TEXT = {
    **{"hidden_size": 1024, "num_hidden_layers": 23, "num_attention_heads": 16, "intermediate_size": 4096},
    **{"hidden_act": "gelu", "projection_dim": 512, "eos_token_id": 2},
}
G_TEXT = {
    **{"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 20, "intermediate_size": 5120},
    **{"hidden_act": "gelu", "projection_dim": 1280, "eos_token_id": 2},
}
CASES = {
    "clip_l_text": (TEXT, L_TEXT),
    "openclip_h_text": (TEXT, H_TEXT),
    "openclip_g_text_projection": (TEXT_WITH_PROJECTION, G_TEXT),
    "clip_b32": (WHOLE, {"text_config": {"eos_token_id": 2}, "vision_config": {}}),
}


def public(name: str) -> dict[str, tuple[int, ...]]:
    lines = (line.partition(" ") for line in (KEYS / f"{name}.txt").read_text().splitlines())
    return {tensor: tuple(map(int, filter(None, shape.split("x")))) for tensor, _, shape in lines}


def shapes(module) -> dict[str, tuple[int, ...]]:
    leaves = flatten_dict(abstract_params({"network": module})["network"], sep=".")
    return {name: leaf.value.shape for name, leaf in leaves.items()}


@pytest.mark.parametrize("name", CASES)
def test_every_public_tensor_has_one_place_and_every_parameter_is_filled(name):
    (layout, config), tensors = CASES[name], public(name)
    module = layout.module(config)
    params, table = shapes(module), layout.rules(config, module)
    found = import_moves(table, tensors, params)
    assert [move.source for move in found] == list(tensors)
    assert {move.source for move in export_moves(table, params)} == set(tensors)


def test_a_text_encoder_is_read_without_the_prefix_too():
    tensors = public("clip_l_text")
    module = TEXT.module(L_TEXT)
    params, table = shapes(module), TEXT.rules(L_TEXT, module)
    short = {name.removeprefix("text_model."): shape for name, shape in tensors.items()}
    moved = [(move.target, move.layer, move.transform) for move in import_moves(table, short, params)]
    assert moved == [(move.target, move.layer, move.transform) for move in import_moves(table, tensors, params)]
    with pytest.raises(ValueError, match="filled twice"):
        import_moves(table, {**tensors, **short}, params)


def test_counts_of_positions_are_no_weights():
    assert matches(TEXT.ignored, "text_model.embeddings.position_ids")
    assert matches(WHOLE.ignored, "vision_model.embeddings.position_ids")
    assert not matches(WHOLE.ignored, "vision_model.embeddings.position_embedding.weight")


def test_a_missing_key_is_what_transformers_takes_for_it():
    encoder = TEXT.module({})
    assert encoder == CLIPTextEncoder(49408, 512, 12, 8, 2048, eos_id=49407)
    assert TEXT_WITH_PROJECTION.module({}) == encoder.clone(projection=512)
    assert WHOLE.module({}) == CLIP(Tower(512, 12, 8, 2048), Tower(768, 12, 12, 3072), eos_id=49407)


def test_the_end_token_of_old_configs_means_the_largest_id():
    assert TEXT.module({"eos_token_id": 2}).eos_id is None
    assert TEXT.module({"eos_token_id": 49407}).eos_id == 49407
    assert WHOLE.module({"text_config": {"eos_token_id": 2}}).eos_id is None


def test_the_older_section_of_a_tower_replaces_the_newer():
    config = {
        "text_config": {"hidden_size": 8, "eos_token_id": 2},
        "text_config_dict": {"hidden_size": 16},
        "vision_config": {"patch_size": 14},
        "vision_config_dict": None,
        "projection_dim": 24,
    }
    clip = WHOLE.module(config)
    assert (clip.text.width, clip.eos_id, clip.patch, clip.projection) == (16, 49407, 14, 24)


MODULES = {
    "plain": (TEXT, CLIPTextEncoder(30, 8, 2, 2, 12, positions=9, eps=1e-6)),
    "projected": (TEXT_WITH_PROJECTION, CLIPTextEncoder(30, 8, 1, 4, 12, activation="gelu", projection=6, eos_id=29)),
    "whole": (WHOLE, CLIP(Tower(8, 1, 2, 12), Tower(12, 2, 3, 20, "gelu"), 30, 6, 9, 8, 4, eos_id=29)),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_written_folder_is_read_as_the_same_weights(name, tmp_path):
    module = MODULES[name][1]
    params = randomised(module, *(jnp.zeros(leaf.shape, leaf.dtype) for leaf in module.example_inputs({})))
    convert.save(tmp_path / "clip", module, params)
    again, read = convert.load(tmp_path / "clip")
    assert again == module
    jax.tree.map(np.testing.assert_array_equal, read, params)


@pytest.mark.parametrize("name", MODULES)
def test_a_written_config_is_read_as_the_same_network(name):
    layout, module = MODULES[name]
    assert layout.module(json.loads(json.dumps(layout.config(module)))) == module


def test_which_features_are_taken_is_no_matter_of_the_config():
    encoder = MODULES["plain"][1]
    assert TEXT.config(encoder.clone(skip=1, normed=False, pad_id=0)) == TEXT.config(encoder)
    assert TEXT.config(encoder)["architectures"] == ["CLIPTextModel"]
    assert TEXT.config(encoder.clone(projection=6))["architectures"] == ["CLIPTextModelWithProjection"]


def test_all_that_is_not_supported_is_named_at_once():
    config = {"hidden_act": "swish", "num_hidden_layers": 0, "hidden_size": "768", "eos_token_id": [1, 2]}
    with pytest.raises(ValueError, match="CLIP text encoder") as caught:
        TEXT.module({**config, "projection_dim": None})
    for name in ("hidden_act='swish'", "quick_gelu", "num_hidden_layers=0", "hidden_size='768'", "eos_token_id=[1, 2]"):
        assert name in str(caught.value)
    assert "projection_dim" not in str(caught.value)
    with pytest.raises(ValueError, match="projection_dim=None"):
        TEXT_WITH_PROJECTION.module({"projection_dim": None})
    with pytest.raises(ValueError, match="CLIP") as caught:
        WHOLE.module({"text_config": config, "vision_config": {"num_channels": 4, "patch_size": [16, 16]}})
    for name in ("text_config hidden_act='swish'", "vision_config num_channels=4", "vision_config patch_size=[16, 16]"):
        assert name in str(caught.value)
