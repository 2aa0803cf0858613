"""AutoencoderKL's config and table: Stable Diffusion's at full size, old names, and all that is refused."""

import math

import pytest

from dalle3_jax.convert import vae
from dalle3_jax.convert.rules import export_moves, import_moves
from dalle3_jax.models.vae import VAE
from tests.convert import public

# The config.json of Stable Diffusion 1: of an old diffusers, so that later options are not there.
SD1 = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.2.2",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
# What Stable Diffusion 3's adds.
SD3 = {
    "latent_channels": 16,
    "latents_mean": None,
    "latents_std": None,
    "norm_num_groups": 32,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "force_upcast": True,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def test_every_tensor_of_stable_diffusion_has_its_place():
    found = public.tensors("sd1_vae")
    assert sum(map(math.prod, found.values())) == 83_653_863
    assert public.fits(vae.LAYOUT, SD1, found) == VAE()


def test_the_first_files_call_the_attention_otherwise():
    found, ours, table = public.tensors("sd1_vae"), public.parameters(VAE()), public.rules(vae.LAYOUT, SD1)
    old = {}
    for name, shape in found.items():
        layer = next((new for new in OLD if f".{new}." in name), "")
        old[name.replace(f".{layer}.", f".{OLD[layer]}.") if layer else name] = shape
    assert len(set(old) - set(found)) == 16
    places = [[move.target for move in import_moves(table, names, ours)] for names in (found, old)]
    assert places[0] == places[1]
    assert {move.source for move in export_moves(table, ours)} == set(found)


def test_a_tensor_under_both_names_fills_a_parameter_twice():
    found = public.tensors("sd1_vae")
    found["encoder.mid_block.attentions.0.query.weight"] = (512, 512)
    with pytest.raises(ValueError, match=r"encoder\.middle_attention\.attention\.query\.kernel is filled twice"):
        import_moves(public.rules(vae.LAYOUT, SD1), found, public.parameters(VAE()))


def test_stable_diffusion_3_has_sixteen_channels_and_no_quant_convs():
    module = vae.LAYOUT.module(SD1 | SD3)
    assert module == VAE(latent_channels=16, quant_convs=False)
    assert vae.latent_statistics(SD1 | SD3) == ((0.0609,) * 16, (1.5305,) * 16)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_each_quant_conv_has_its_own_switch(before, after):
    config = SD1 | {"use_quant_conv": before, "use_post_quant_conv": after}
    found = {
        name: shape
        for name, shape in public.tensors("sd1_vae").items()
        if (before or not name.startswith("quant_conv")) and (after or not name.startswith("post_quant_conv"))
    }
    module = public.fits(vae.LAYOUT, config, found)
    written = vae.LAYOUT.config(module)
    assert (written["use_quant_conv"], written["use_post_quant_conv"]) == (before, after)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"latent_channels": 16, "quant_convs": False},
        {"channels": (24, 36, 60), "blocks": 3, "decoder_blocks": 4, "groups": 6, "attention": False},
        {"channels": (8,), "decoder_channels": (8,), "groups": 2, "decoder_quant_conv": False},
    ],
)
def test_a_config_that_was_written_reads_as_the_same_network(fields):
    module = VAE(**fields)
    assert vae.LAYOUT.module(vae.LAYOUT.config(module)) == module.clone(decoder_channels=None)


def test_what_diffusers_cannot_express_is_named_at_once():
    module = VAE(patch=2, norm="rms", decoder_channels=(32, 32, 32, 32), decoder_blocks=2)
    with pytest.raises(ValueError, match="as AutoencoderKL") as error:
        vae.LAYOUT.config(module)
    for field in ("patch=2", "norm='rms'", "decoder_channels=(32, 32, 32, 32)", "decoder_blocks=2 (supported: 3)"):
        assert field in str(error.value)


def test_every_unsupported_option_is_named_at_once():
    options = {
        "in_channels": 4,
        "act_fn": "gelu",
        "down_block_types": ["AttnDownEncoderBlock2D"] * 4,
        "layers_per_block": True,
        "latent_channels": None,
        "use_quant_conv": "yes",
        "temporal_compression_ratio": 4,
    }
    with pytest.raises(ValueError, match="AutoencoderKL") as error:
        vae.LAYOUT.module(SD1 | options)
    assert [name for name in options if f"{name}=" not in str(error.value)] == []
    assert "out_channels" not in str(error.value)


@pytest.mark.parametrize("channels", [[], [32, 0], "32", 32, [[32]]])
def test_widths_must_be_a_list_of_sizes(channels):
    with pytest.raises(ValueError, match="block_out_channels"):
        vae.LAYOUT.module(SD1 | {"block_out_channels": channels})


@pytest.mark.parametrize(
    ("options", "shift", "scale"),
    [
        ({}, (0.0, 0.0), (0.18215, 0.18215)),
        ({"scaling_factor": 0.5, "shift_factor": 2}, (2.0, 2.0), (0.5, 0.5)),
        ({"latents_mean": [1.0, -1.0], "latents_std": [2.0, 4.0], "scaling_factor": 8}, (1.0, -1.0), (4.0, 2.0)),
        ({"latents_mean": [3.0, 0.0], "shift_factor": 7.0, "scaling_factor": 1.0}, (3.0, 0.0), (1.0, 1.0)),
    ],
)
def test_statistics_of_latents(options, shift, scale):
    config = {"latent_channels": 2, **options}
    assert vae.latent_statistics(config) == (shift, scale)
    written = {"latent_channels": 2, **vae.latent_options(shift, scale)}
    assert vae.latent_statistics(written) == (shift, scale)


@pytest.mark.parametrize(
    "options",
    [
        {"latents_mean": [1.0]},
        {"latents_std": [1.0, 0.0]},
        {"latents_std": "ab"},
        {"scaling_factor": -1.0},
        {"scaling_factor": None},
        {"scaling_factor": math.inf},
        {"shift_factor": math.nan},
    ],
)
def test_statistics_that_no_latents_could_have_are_refused(options):
    name = next(iter(options))
    with pytest.raises(ValueError, match=rf"{name}=.*2 latent channels need finite numbers"):
        vae.latent_statistics({"latent_channels": 2, **options})


@pytest.mark.parametrize("channels", [None, 0, [4], "4"])
def test_statistics_need_a_number_of_channels(channels):
    with pytest.raises(ValueError, match="latent_channels="):
        vae.latent_statistics({"latent_channels": channels})
