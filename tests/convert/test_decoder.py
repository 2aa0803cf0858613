"""The consistency decoder's two public layouts: at full size, their configs, and all that is refused."""

import math

import pytest

from dalle3_jax.convert import decoder
from dalle3_jax.convert.rules import import_moves, matches
from dalle3_jax.models.decoder import DecoderUNet
from tests.convert import public
from tests.convert.flat_names import flat

FULL = public.tensors("consistency_decoder_vae")
UNET = {name: shape for name, shape in FULL.items() if name.startswith("decoder_unet.")}
FLAT = {name: flat(name.removeprefix("decoder_unet."), levels=4) for name in UNET}


def test_every_tensor_of_the_public_decoder_has_its_place_and_its_encoder_is_left_out():
    assert sum(map(math.prod, FULL.values())) == 655_441_366
    assert public.fits(decoder.LAYOUT, {}, FULL) == DecoderUNet()
    assert {name for name in FULL if not matches(decoder.LAYOUT.ignored, name)} == set(UNET)


@pytest.mark.parametrize("prefix", ["", "blocks.", "decoder.blocks."])
def test_the_flat_layout_is_the_same_network(prefix):
    names = {name: prefix + FLAT[name] for name in UNET}
    found = {names[name]: shape for name, shape in UNET.items()}
    assert len(found) == 407
    assert public.fits(decoder.FLAT, found, found) == DecoderUNet()
    ours = public.parameters(DecoderUNet())
    places = {move.source: move for move in import_moves(public.rules(decoder.FLAT, found), found, ours)}
    for move in import_moves(public.rules(decoder.LAYOUT, {}), UNET, ours):
        assert places[names[move.source]] == move._replace(source=names[move.source])


@pytest.mark.parametrize("table", ["weight", "embed_time.emb", "embed_time.emb.w"])
def test_the_flat_table_of_times_goes_by_several_names(table):
    found = {FLAT[name]: shape for name, shape in UNET.items()}
    found[table] = found.pop("embed_time.emb.weight")
    public.fits(decoder.FLAT, found, found)


def test_fields_of_the_flat_layout_follow_from_shapes():
    module = DecoderUNet((32, 96), 2, latent_channels=16, out_channels=3, time_entries=50, embedding_ratio=2)
    shapes = {
        "down_0_conv_0.f_1.w": (32, 32, 3, 3),
        "down_0_conv_1.f_1.w": (32, 32, 3, 3),
        "down_1_conv_0.f_1.w": (96, 32, 3, 3),
        "embed_image.f.w": (32, 19, 3, 3),
        "embed_time.f_1.w": (64, 32),
        "embed_time.emb": (50, 32),
        "output.f.w": (3, 32, 3, 3),
    }
    assert decoder.FLAT.module(shapes) == module
    for name in shapes.keys() - {"down_0_conv_1.f_1.w"}:
        with pytest.raises(ValueError, match="not a consistency decoder's") as error:
            decoder.FLAT.module(shapes | {name: (4,)})
        assert f"{name} (4,)" in str(error.value)


def test_tensors_of_something_else_are_not_taken_for_a_decoder():
    with pytest.raises(ValueError, match=r"down_0_conv_0\.f_1\.w is missing, embed_image\.f\.w is missing"):
        decoder.FLAT.module({"weight": (1024, 320), "model.conv.weight": (3, 3)})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"channels": (32, 64), "blocks": 1, "factor": 2, "groups": 8, "out_channels": 3, "time_entries": 0},
        {"channels": (16,), "factor": 1, "time_entries": 10},
    ],
)
def test_a_config_that_was_written_reads_as_the_same_network(fields):
    module = DecoderUNet(**fields)
    assert decoder.LAYOUT.module(decoder.LAYOUT.config(module)) == module


def test_what_diffusers_cannot_express_is_named_at_once():
    module = DecoderUNet(image_channels=4, latent_channels=16, factor=16, patch=2, norm="rms", embedding_ratio=2)
    with pytest.raises(ValueError, match="as ConsistencyDecoderVAE") as error:
        decoder.LAYOUT.config(module)
    for named in ("image_channels=4", "latent_channels=16", "factor=16", "patch=2", "norm='rms'", "embedding_ratio=2"):
        assert named in str(error.value)


def test_every_unsupported_option_is_named_at_once():
    options = {
        "latent_channels": 16,
        "decoder_in_channels": 19,
        "decoder_add_attention": True,
        "decoder_block_out_channels": [320, "640"],
        "decoder_layers_per_block": 0,
        "decoder_num_train_timesteps": None,
        "decoder_norm_eps": 1e-6,
        "decoder_out_channels": 2,
        "decoder_resnet_time_scale_shift": "default",
        "decoder_time_embedding_type": "learned",
        "decoder_attention_head_dim": 8,
    }
    with pytest.raises(ValueError, match="ConsistencyDecoderVAE") as error:
        decoder.LAYOUT.module(options)
    fine = {"decoder_time_embedding_type"}
    assert {name for name in options if f"{name}=" not in str(error.value)} == fine


@pytest.mark.parametrize("name", ["decoder_down_block_types", "decoder_up_block_types"])
def test_a_block_type_a_level(name):
    with pytest.raises(ValueError, match=name):
        decoder.LAYOUT.module({name: ["DownBlock2D"] * 4})


def test_decoding_takes_latents_as_the_vae_gives_them():
    how = decoder.decoder_settings({"scaling_factor": 0.25})
    assert (how.kind, how.prediction, how.schedule) == ("consistency", "edm", {"name": "cosine", "steps": 1024})
    assert (how.top, how.steps, how.times) == (1009 / 1024, 2, (1009 / 1024, 513 / 1024))
    assert (how.latent.factor, how.latent.shift, how.latent.scale) == (8, (0.0,) * 4, (0.25,) * 4)
    means, stds = (0.38862467, 0.02253063, 0.07381133, -0.0171294), (0.9654121, 1.0440036, 0.76147926, 0.77022034)
    for z in (-2.0, 0.5):
        found = [
            (z - shift) * scale for shift, scale in zip(how.network_latent.shift, how.network_latent.scale, strict=True)
        ]
        assert found == pytest.approx([(0.25 * z - mean) / std for mean, std in zip(means, stds, strict=True)])
    assert decoder.decoder_settings({}) == decoder.decoder_settings({"scaling_factor": 0.18215})


@pytest.mark.parametrize("factor", [0, -0.18215, None, math.nan])
def test_a_scaling_factor_must_be_positive(factor):
    with pytest.raises(ValueError, match="scaling_factor"):
        decoder.decoder_settings({"scaling_factor": factor})
