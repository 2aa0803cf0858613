"""The UNet against diffusers' UNet2DConditionModel, through its files: SD's, SDXL's and the scale-shift ones."""

import json

import diffusers
import jax.numpy as jnp
import pytest
import torch

from dalle3_jax.convert import unet
from dalle3_jax.models.condition import Condition
from dalle3_jax.models.unet import Level, UNet
from dalle3_jax.models.unet_call import apply_unet
from tests.parity import folders, references, weights

pytestmark = pytest.mark.network("UNet", "diffusers UNet2DConditionModel")

CASES = {
    "sd1_like": {"size": (8, 12), "channels": (16, 24, 32), "depths": (1, 1, 0), "heads": (2, 4, 8), "groups": 8},
    "sd2_like": {"channels": (16, 32), "depths": (1, 0), "heads": (1, 2), "groups": 4, "linear": True},
    "sdxl_like": {
        "channels": (12, 24, 36),
        "depths": (0, 2, 3),
        "heads": (1, 2, 3),
        "groups": 6,
        "linear": True,
        "size_ids": 6,
        "blocks": 1,
    },
    "scale_shift": {
        "size": (8, 12),
        "channels": (16, 32),
        "depths": (1, 2),
        "heads": (2, 2),
        "groups": 8,
        "scale_shift": True,
    },
    "scale_shift_pooled": {
        "channels": (10, 20),
        "depths": (0, 1),
        "heads": (1, 4),
        "groups": 5,
        "scale_shift": True,
        "size_ids": 6,
        "linear": True,
        "blocks": 3,
    },
    "one_level": {"channels": (8,), "depths": (2,), "heads": (2,), "groups": 2, "in_channels": 9},
}
# Options of diffusers by name: a list a level, depths a block, a narrow time embedding.
LISTS = {
    "in_channels": 5,
    "out_channels": 6,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (12, 8, 4),
    "layers_per_block": (1, 3, 2),
    "transformer_layers_per_block": ((2,), 1, (1, 1)),
    "reverse_transformer_layers_per_block": ((1, 1, 1), 1, (2, 2)),
    "attention_head_dim": (4, 2, 2),
    "norm_num_groups": 4,
    "time_embedding_dim": 36,
}


def module(case: dict) -> UNet:
    levels = zip(case["channels"], case["depths"], case["heads"], strict=True)
    return UNet(
        levels=tuple(Level(channels, case.get("blocks", 2), depth, heads) for channels, depth, heads in levels),
        in_channels=case.get("in_channels", 4),
        time_conditioning="scale_shift" if case.get("scale_shift") else "add",
        modulate_first=False,
        affine=True,
        pooled=bool(case.get("size_ids")),
        size_ids=case.get("size_ids", 0),
        context_width=references.CONTEXT,
        vector_width=references.VECTOR if case.get("size_ids") else 0,
        middle_depth=case["depths"][-1] or 1,
        groups=case["groups"],
    )


@pytest.mark.parametrize("name", CASES)
def test_unet(name, agree, run, tmp_path):
    case = CASES[name]
    theirs = references.unet(case)
    ours, params = folders.imported(theirs, tmp_path)
    assert ours == module(case)
    depths, blocks = case["depths"], case.get("blocks", 2)
    with weights.read_once(theirs) as w:
        tree = weights.unet(w, depths, blocks, depths[-1] or 1, case.get("scale_shift", False))
    folders.assert_same_tree(params, tree)
    compare(ours, params, theirs, case.get("size", (7, 9)), agree, run)


def test_options_in_lists(agree, run, tmp_path):
    theirs = references.made(diffusers.UNet2DConditionModel, **LISTS, cross_attention_dim=references.CONTEXT)
    ours, params = folders.imported(theirs, tmp_path)
    assert [(level.blocks, level.depth, level.heads) for level in ours.levels] == [(1, 2, 4), (3, 0, 2), (2, 1, 2)]
    compare(ours, params, theirs, (8, 12), agree, run)


def test_the_guidance_scale_as_an_input(agree, run, tmp_path):
    """As latent consistency models take it: their pipeline's embedding of scale - 1, and the UNet's projection."""
    width, scale = 12, torch.tensor([7.5, 1.25])
    theirs = references.unet(CASES["sd2_like"], time_cond_proj_dim=width)
    ours, params = folders.imported(theirs, tmp_path / "theirs")
    assert ours == module(CASES["sd2_like"]).clone(guidance_width=width)
    x, t, condition, _ = references.unet_inputs(theirs, (7, 9))
    embed = diffusers.LatentConsistencyModelPipeline.get_guidance_scale_embedding
    expected = theirs(x, t, **condition, timestep_cond=embed(None, scale - 1, width)).sample
    tensors = (x.permute(0, 2, 3, 1), t, *condition.values(), scale)
    x, t, tokens, mask, scale = (jnp.asarray(value.numpy()) for value in tensors)
    told = Condition(tokens, mask, jnp.zeros((2, 1)))
    agree(run(ours, params, x, t, told, None, None, scale), expected.permute(0, 2, 3, 1))
    again, same = folders.imported(folders.exported(ours, params, type(theirs), tmp_path / "ours"), tmp_path / "again")
    assert again == ours
    folders.assert_same_tree(same, params)


CLASSES = {
    "sinusoids of a number": ({"class_embed_type": "timestep"}, torch.tensor([20.0, 351.5])),
    "a table": ({"num_class_embeds": 9}, torch.tensor([3, 8])),
    "vectors": (
        {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 6},
        torch.linspace(-2, 2, 12).reshape(2, 6),
    ),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_classes(kind, agree, run, tmp_path):
    options, labels = CLASSES[kind]
    theirs = references.unet(CASES["sd2_like"], **options)
    ours, params = folders.imported(theirs, tmp_path / "theirs")
    x, t, condition, _ = references.unet_inputs(theirs, (7, 9))
    expected = theirs(x, t, **condition, class_labels=labels).sample
    tensors = (x.permute(0, 2, 3, 1), t, *condition.values(), labels)
    x, t, tokens, mask, labels = (jnp.asarray(value.numpy()) for value in tensors)
    vector, level = (labels, None) if ours.pooled else (jnp.zeros((2, 1)), labels.astype(jnp.float32))
    agree(run(ours, params, x, t, Condition(tokens, mask, vector), None, level), expected.permute(0, 2, 3, 1))
    again, same = folders.imported(folders.exported(ours, params, type(theirs), tmp_path / "ours"), tmp_path / "again")
    assert again == ours
    folders.assert_same_tree(same, params)


def test_five_size_ids_of_the_refiner(agree, run, tmp_path):
    """The vector of its one text encoder is as wide as a token; the fifth id is an aesthetic score."""
    ids, width = 5, 8
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": width}
    added |= {"projection_class_embeddings_input_dim": references.CONTEXT + ids * width}
    theirs = references.unet(CASES["sd2_like"], **added)
    ours, params = folders.imported(theirs, tmp_path)
    assert (ours.size_ids, ours.vector_width) == (ids, references.CONTEXT)
    x, t, condition, _ = references.unet_inputs(theirs, (6, 8))
    vector, sizes = (
        torch.linspace(-1, 1, 2 * references.CONTEXT).reshape(2, -1),
        torch.tensor([[48.0, 64, 0, 0, 6]] * 2),
    )
    given = {"text_embeds": vector, "time_ids": sizes}
    expected = theirs(x, t, **condition, added_cond_kwargs=given).sample.permute(0, 2, 3, 1)
    tensors = (x.permute(0, 2, 3, 1), t, *condition.values(), vector)
    x, t, tokens, mask, vector = (jnp.asarray(value.numpy()) for value in tensors)
    agree(apply_unet(ours, params, x, t, Condition(tokens, mask, vector), factor=8), expected)
    assert unet.LAYOUT.module(unet.LAYOUT.config(ours)) == ours


@pytest.mark.parametrize("name", CASES)
def test_what_we_write_is_the_same_network_to_diffusers(name, agree, tmp_path):
    """Weight for weight with the config.json it came from; our own config makes 1x1 projections linear."""
    theirs = references.unet(CASES[name])
    ours, params = folders.imported(theirs, tmp_path / "theirs")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    cls = diffusers.UNet2DConditionModel
    folders.assert_same_weights(folders.exported(ours, params, cls, tmp_path / "same", config), theirs)
    written = folders.exported(ours, params, cls, tmp_path / "ours")
    assert written.config.use_linear_projection
    x, t, condition, added = references.unet_inputs(theirs, (8, 8))
    expected, found = (unet(x, t, **condition, added_cond_kwargs=added).sample for unet in (theirs, written))
    agree(found.detach(), expected)


def compare(ours: UNet, params, theirs: torch.nn.Module, size: tuple[int, int], agree, run) -> None:
    x, t, condition, added = references.unet_inputs(theirs, size)
    expected = theirs(x, t, **condition, added_cond_kwargs=added if ours.pooled else None).sample
    tensors = (x.permute(0, 2, 3, 1), t, *condition.values(), *added.values())
    x, t, tokens, mask, vector, sizes = (jnp.asarray(value.numpy()) for value in tensors)
    out = run(ours, params, x, t, Condition(tokens, mask, vector), sizes if ours.size_ids else None)
    agree(out, expected.permute(0, 2, 3, 1))
