"""Plain values to modules and back."""

import json

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.models.build import (
    COMPONENT_NETWORKS,
    NETWORK_CLASSES,
    NETWORKS,
    build_models,
    build_module,
    module_fields,
    module_kind,
)
from dalle3_jax.models.captioner import Captioner
from dalle3_jax.models.clip import CLIP, CLIPTextEncoder, CLIPVisionEncoder, Tower
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.image_prompt import ImageAttention, ImagePrompt
from dalle3_jax.models.latent_head import LatentHead
from dalle3_jax.models.layout_encoder import LayoutEncoder
from dalle3_jax.models.layout_head import LayoutHead
from dalle3_jax.models.layout_memory import LayoutMemory
from dalle3_jax.models.scene_reader import SceneReader
from dalle3_jax.models.size_head import SizeHead
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import Level, UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.models.xfnet import XFNet

MODULES = [
    T5Encoder(30, 8, 2, 2, 4, 12, "relu", relative_buckets=8, remat=True),
    XFNet("resampler", 8, 3, layers=2, queries=4, glyphs=True),
    UNet(levels=(Level(8, 1), Level(12, 2, depth=1, heads=2)), time_conditioning="add", size_ids=6),
    UNet((Level(8, self_attend=False),), patch=2, norm="rms", level_entries=0, middle_self_attend=False, grid=(2, 2)),
    VAE(channels=(4, 8), decoder_channels=(8, 8), patch=2, norm="rms"),
    LatentHead(grid=(2, 2), patch=2, channels=4),
    LayoutHead((2, 2), ("cat", "dog"), ("natural", "red"), ("beach",)),
    LayoutMemory(8, (2, 2), 4),
    LayoutEncoder(8, 3, 4, (2, 2), ("cat", "dog"), ("natural", "red"), ("beach",)),
    CLIPVisionEncoder(Tower(8, 2, 2, 12), image_size=8, patch=4, projection=6),
    ImagePrompt((ImageAttention("middle", 1, 2, 4),), features=6, width=8, layers=1, heads=2, head_size=4, inner=8),
    DecoderUNet((4, 8), 1, factor=4, patch=2, time_entries=0, norm="rms"),
    CLIPTextEncoder(30, 8, 2, 2, 12, activation="gelu", projection=6, eos_id=29, pad_id=0, skip=1, normed=False),
    CLIP(Tower(8, 1, 2, 12), Tower(12, 2, 3, 20, "gelu", 1e-6), vocab_size=30, image_size=8, patch=4, eos_id=29),
    Captioner(*[Tower(8, 1, 2, 12, "gelu")] * 3, vocab_size=30, positions=6, image_size=(8, 12), patch=4, queries=2),
    SizeHead(((8, 8), (8, 16)), width=8, hidden=4),
    SceneReader(("cat", "dog"), ("natural", "red"), ("flat",), ("beach",), channels=(4, 8, 8)),
]
T5 = {"vocab_size": 30, "width": 8, "layers": 2, "heads": 2, "head_size": 4, "mlp_width": 12}


@pytest.mark.parametrize("module", MODULES, ids=module_kind)
def test_round_trip_through_json(module):
    fields = json.loads(json.dumps(module_fields(module)))
    assert build_module(module_kind(module), fields) == module
    assert "dtype" not in fields


def test_fields_that_records_of_before_lack_are_written_only_where_they_say_something():
    levels = (Level(8), Level(8))
    usual, other = UNet(levels=levels), UNet(levels=levels, eps=1e-6, size_id_width=8, conv_in_kernel=1)
    new = {"eps", "size_id_width", "conv_in_kernel", "conv_out_kernel"}
    assert new & module_fields(usual).keys() == set()
    assert new & module_fields(other).keys() == {"eps", "size_id_width", "conv_in_kernel"}
    assert build_module("unet", module_fields(other)) == other


def test_every_network_has_a_kind():
    assert {module_kind(module) for module in MODULES} == set(NETWORK_CLASSES)


@pytest.mark.parametrize("module", MODULES, ids=module_kind)
def test_every_network_is_called_with_its_example_inputs(module):
    module = module.clone(groups=2) if hasattr(module, "groups") else module
    head = LayoutHead((2, 2), ("cat", "dog"), ("natural", "red"), ("beach",))
    system = {"text_encoder": MODULES[0], "glyph_encoder": MODULES[0], "xfnet": MODULES[1], "layout_head": head}
    system["module"] = module
    params = abstract_params(system, ["module"])["module"]
    given = module.example_inputs(system)
    assert jax.tree.leaves(jax.eval_shape(lambda p, *x: module.apply({"params": p}, *x), nn.unbox(params), *given))


def test_a_component_stands_for_one_network():
    components = [component for _, components in NETWORKS.values() for component in components]
    assert len(components) == len(COMPONENT_NETWORKS)


def test_tuples_of_a_config_and_lists_of_json_build_the_same_module():
    fields = module_fields(MODULES[2])
    assert (
        build_module("unet", {**fields, "levels": tuple(fields["levels"])})
        == build_module("unet", fields)
        == MODULES[2]
    )


def test_compute_dtype_is_an_argument():
    assert build_module("t5", T5, dtype=jnp.bfloat16).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="unknown field 'dtype'"):
        build_module("t5", T5 | {"dtype": "bfloat16"})


def refusal(call, *args) -> str:
    with pytest.raises(ValueError, match=r"field|network") as caught:
        call(*args)
    return str(caught.value)


def test_all_wrong_names_are_told_at_once():
    message = refusal(build_module, "t5", {"width": 8, "layers": 2, "head": 2, "speed": 1})
    for name in (
        "unknown field 'head'",
        "unknown field 'speed'",
        "missing field 'heads'",
        "missing field 'vocab_size'",
    ):
        assert name in message
    assert "relative_buckets" in message


def test_wrong_names_inside_levels_are_told_with_the_others():
    levels = [{"channels": 8}, {"chanels": 8}, {"channels": 8, "size": 3}]
    message = refusal(build_module, "unet", {"levels": levels, "colour": 1})
    for name in (
        "'colour'",
        "level 1: unknown field 'chanels', missing field 'channels'",
        "level 2: unknown field 'size'",
    ):
        assert name in message


def test_wrong_names_inside_a_record_are_told_with_the_others():
    message = refusal(
        build_module, "clip", {"text": {"width": 8, "layers": 1, "heads": 2}, "vision": {"depth": 1}, "size": 2}
    )
    for name in ("'size'", "clip text: missing field 'mlp_width'", "clip vision: unknown field 'depth'"):
        assert name in message


def test_wrong_names_of_all_components_are_told_at_once():
    message = refusal(build_models, {"text_encoder": {}, "xfnet": {"network": "mystery"}, "vae": {"depth": 3}})
    for name in (
        "text_encoder: missing field 'head_size'",
        "xfnet: unknown network 'mystery'",
        "vae: unknown field 'depth'",
    ):
        assert name in message


def test_components_come_from_their_sections_and_others_are_left_alone():
    sections = {"text_encoder": {"network": "t5", **T5}, "glyph_encoder": T5, "vae": {}}
    models = build_models({**sections, "diffusion": {"prediction": "v"}})
    assert models == {"text_encoder": build_module("t5", T5), "glyph_encoder": build_module("t5", T5), "vae": VAE()}
