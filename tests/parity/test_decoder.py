"""The consistency decoder against diffusers: its blocks, UNet, files, coefficients and two steps."""

from collections.abc import Callable
from types import SimpleNamespace

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers.models.autoencoders import consistency_decoder_vae
from diffusers.models.resnet import ResnetBlock2D
from diffusers.schedulers import scheduling_consistency_decoder
from diffusers.schedulers.scheduling_consistency_decoder import ConsistencyDecoderScheduler
from safetensors.torch import save_file

from dalle3_jax import convert
from dalle3_jax.convert.decoder import decoder_settings
from dalle3_jax.diffusion import prediction, samplers
from dalle3_jax.diffusion.schedules import Cosine
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.nn.resnet import ResBlock
from tests.convert.flat_names import flat
from tests.parity import folders, references, weights
from tests.parity.decoder_weights import decoder_unet

pytestmark = pytest.mark.network("consistency decoder", "diffusers ConsistencyDecoderVAE")

DECODING = decoder_settings({})
SCHEDULE = Cosine(steps=DECODING.schedule["steps"])
TIMES = jnp.asarray([*DECODING.times, 0.0])
# The published decoder's: index, sqrt(alpha_bar), sqrt(1 - alpha_bar), c_skip, c_out, c_in.
PUBLISHED = [
    (1008, 0.022827, 0.999739, 0.005709, 0.499967, 1.000195),
    (512, 0.701656, 0.712515, 0.278100, 0.448573, 1.259124),
]

CASES = {
    "two_levels": {"channels": (32, 64), "blocks": 1, "groups": 32},
    "three_levels": {"channels": (32, 64, 96), "blocks": 2, "groups": 16, "factor": 4},
    "last_levels_alike": {"channels": (10, 20, 20), "blocks": 1, "groups": 5, "factor": 4, "out_channels": 3},
    "one_level": {"channels": (12,), "blocks": 1, "groups": 1, "factor": 1, "latent_channels": 3},
}


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 2, 3, 1)


def to_jax(x: torch.Tensor) -> jax.Array:
    return jnp.asarray((channels_last(x) if x.ndim == 4 else x).numpy())


def to_torch(x: jax.Array) -> torch.Tensor:
    return torch.from_numpy(np.array(x)).permute(0, 3, 1, 2)


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("resample", ["down", "up"])
@pytest.mark.parametrize(("width_in", "width", "groups"), [(16, 16, 4), (12, 30, 6)])
def test_resampling_block(resample, width_in, width, groups, agree, run):
    torch.manual_seed(0)
    theirs = ResnetBlock2D(
        in_channels=width_in,
        out_channels=width,
        temb_channels=10,
        groups=groups,
        eps=1e-5,
        time_embedding_norm="scale_shift",
        **{resample: True},
    )
    weights.perturb(theirs)
    with weights.read_once(theirs) as w:
        params = weights.res_block(w, scale_shift=True)
    x, e = 3 + 2 * drawn(2, width_in, 6, 8), drawn(2, 10, seed=2)
    ours = ResBlock(width, "scale_shift", resample=resample, groups=groups)
    agree(run(ours, params, to_jax(x), to_jax(e)), channels_last(theirs(x, e)))


def ours_of(fields: dict) -> DecoderUNet:
    return DecoderUNet(**{"factor": 2, "time_entries": 16} | fields)


def reference(ours: DecoderUNet) -> torch.nn.Module:
    torch.manual_seed(0)
    levels = len(ours.channels)
    unet = diffusers.UNet2DModel(
        add_attention=False,
        block_out_channels=ours.channels,
        down_block_types=("ResnetDownsampleBlock2D",) * levels,
        up_block_types=("ResnetUpsampleBlock2D",) * levels,
        in_channels=ours.image_channels + ours.latent_channels,
        out_channels=ours.out_channels,
        layers_per_block=ours.blocks,
        norm_num_groups=ours.groups,
        num_train_timesteps=ours.time_entries,
        resnet_time_scale_shift="scale_shift",
        time_embedding_type="learned",
    )
    return weights.perturb(unet)


@pytest.mark.parametrize("case", CASES)
def test_unet(case, agree, run):
    ours = ours_of(CASES[case])
    theirs = reference(ours)
    with weights.read_once(theirs) as w:
        params = decoder_unet(w, len(ours.channels), ours.blocks)
    latents, times = drawn(2, ours.latent_channels, 3, 4), torch.tensor([13, 2])
    x = drawn(2, 3, 3 * ours.factor, 4 * ours.factor, seed=2)
    wide = torch.nn.functional.interpolate(latents, scale_factor=ours.factor, mode="nearest")
    expected = theirs(torch.cat([x, wide], dim=1), times).sample[:, :3]
    agree(run(ours, params, to_jax(x), to_jax(times.float()), to_jax(latents)), channels_last(expected))


def test_a_flat_file_is_the_same_network(tmp_path):
    """Of 32 groups and eight pixels per latent, which the flat layout does not say."""
    theirs = reference(ours_of({"channels": (32, 64, 64), "blocks": 2, "out_channels": 5}))
    tensors = {flat(name, levels=3): weight for name, weight in theirs.state_dict().items()}
    save_file(tensors, tmp_path / "flat.safetensors")
    ours, params = convert.load(tmp_path / "flat.safetensors")
    assert ours == DecoderUNet((32, 64, 64), 2, out_channels=5, time_entries=16)
    with weights.read_once(theirs) as w:
        folders.assert_same_tree(params, decoder_unet(w, levels=3, blocks=2))


def coefficients(t: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What a denoiser makes of x = 1: (c_skip, c_out, c_in), read off two networks of constants."""
    ones, seen = jnp.ones((len(t), 1, 1, 1)), []

    def silent(x, time):
        seen.append(x)
        return jnp.zeros_like(x)

    skipped = prediction.denoiser(silent, SCHEDULE, "edm")(ones, t)
    full = prediction.denoiser(lambda x, time: jnp.ones_like(x), SCHEDULE, "edm")(ones, t)
    return skipped.ravel(), (full - skipped).ravel(), seen[0].ravel()


def test_coefficients_are_the_published_ones():
    index, alpha, sigma, *expected = map(np.array, zip(*PUBLISHED, strict=True))
    np.testing.assert_array_equal(SCHEDULE.network_time(TIMES[:2]), index)
    np.testing.assert_allclose(SCHEDULE.alpha(TIMES[:2]), alpha, rtol=3e-5)
    np.testing.assert_allclose(SCHEDULE.sigma(TIMES[:2]), sigma, rtol=1e-6)
    for found, published in zip(coefficients(TIMES[:2]), expected, strict=True):
        np.testing.assert_allclose(found, published, rtol=1e-4)


def test_coefficients_are_diffusers_at_every_noise_level(agree):
    scheduler, index = ConsistencyDecoderScheduler(), np.array([100, 300, 512, 800, 1008, 1020])
    t = jnp.asarray((index + 1) / 1024, jnp.float32)
    np.testing.assert_array_equal(SCHEDULE.network_time(t), index)
    agree(SCHEDULE.alpha(t), scheduler.sqrt_alphas_cumprod[index])
    agree(SCHEDULE.sigma(t), scheduler.sqrt_one_minus_alphas_cumprod[index])
    for found, theirs in zip(coefficients(t), (scheduler.c_skip, scheduler.c_out, scheduler.c_in), strict=True):
        agree(found, theirs[index])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> SimpleNamespace:
    """diffusers' whole decoder, tiny; our UNet of its folder; latents as a VAE gives them, and all noise."""
    vae = references.consistency_decoder((16, 24))
    unet, params = folders.imported(vae, tmp_path_factory.mktemp("whole"))
    keys = jax.random.split(jax.random.key(3), 2)
    return SimpleNamespace(
        vae=vae.requires_grad_(False),
        unet=unet,
        params=params,
        keys=keys,
        latents=4 * drawn(2, 4, 3, 4),
        start=samplers.noise(keys, (6, 8, 3)),
        fresh=samplers.noise(jax.vmap(jax.random.fold_in, (0, None))(keys, 0), (6, 8, 3)),
    )


def test_a_folder_is_the_same_network_both_ways(whole, tmp_path):
    assert whole.unet == DecoderUNet(channels=(16, 24), blocks=1, factor=2, groups=4)
    with weights.read_once(whole.vae.decoder_unet) as w:
        folders.assert_same_tree(whole.params, decoder_unet(w, levels=2, blocks=1))
    back = folders.exported(whole.unet, whole.params, diffusers.ConsistencyDecoderVAE, tmp_path / "ours")
    folders.assert_same_weights(back.decoder_unet, whole.vae.decoder_unet)
    assert len(back.config.block_out_channels) == len(whole.vae.config.block_out_channels)


def sampled(whole: SimpleNamespace, clamp: bool) -> jax.Array:
    """Our two steps, from the same latents and noise."""
    latents = DECODING.network_latent.normalise(to_jax(whole.latents))

    def network(x, time):
        return whole.unet.apply({"params": whole.params}, x, time, latents)

    denoise = prediction.denoiser(network, SCHEDULE, "edm", clamp=clamp)
    x = SCHEDULE.sigma(TIMES[0]) * whole.start
    return samplers.sample(samplers.SAMPLERS["consistency"], denoise, SCHEDULE, x, TIMES, whole.keys)


def fed(noises: list[torch.Tensor]) -> Callable[..., torch.Tensor]:
    """randn_tensor, with the given noise in order."""
    left = list(noises)

    def randn_tensor(shape, **_) -> torch.Tensor:
        assert left[0].shape == shape
        return left.pop(0)

    return randn_tensor


def test_two_steps_are_diffusers_whole_decode(whole, agree, monkeypatch):
    randn_tensor = fed([to_torch(whole.start), to_torch(whole.fresh)])
    for module in (consistency_decoder_vae, scheduling_consistency_decoder):
        monkeypatch.setattr(module, "randn_tensor", randn_tensor)
    agree(sampled(whole, clamp=False), channels_last(whole.vae.decode(whole.latents).sample))


def clamped(whole: SimpleNamespace) -> tuple[torch.Tensor, list[float]]:
    """The same in torch with x0 clamped at each step, as OpenAI's code does; and how far each x0 had reached."""
    latents = (0.18215 * whole.latents - whole.vae.means) / whole.vae.stds
    latents = torch.nn.functional.interpolate(latents, scale_factor=2, mode="nearest")
    x0, noise, reached = torch.zeros_like(to_torch(whole.start)), to_torch(whole.start), []
    for index, alpha, sigma, c_skip, c_out, c_in in PUBLISHED:
        x = alpha * x0 + sigma * noise
        output = whole.vae.decoder_unet(torch.cat([c_in * x, latents], dim=1), index).sample[:, :3]
        x0, noise = c_out * output + c_skip * x, to_torch(whole.fresh)
        reached.append(x0.abs().max().item())
        x0 = x0.clamp(-1, 1)
    return x0, reached


def test_two_clamped_steps(whole, agree):
    expected, reached = clamped(whole)
    assert min(reached) > 1.5
    agree(sampled(whole, clamp=True), channels_last(expected))
