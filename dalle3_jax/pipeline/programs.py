"""The programs that a pipeline compiles: text to condition, noise, steps of the sampling loop, latents to images."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from dalle3_jax.diffusion import prediction, samplers
from dalle3_jax.diffusion.inversion import invert
from dalle3_jax.diffusion.sdedit import sdedit
from dalle3_jax.diffusion.spacing import pad_times
from dalle3_jax.models.condition import Condition, ProjectedCondition, encode_text, serialize_records
from dalle3_jax.models.layout_memory import sample_layout
from dalle3_jax.models.unet_call import (
    AESTHETIC_SCORE,
    NEGATIVE_AESTHETIC_SCORE,
    REFINER_SIZE_IDS,
    apply_unet_with_features,
    project_condition,
)
from dalle3_jax.models.vae import depth_to_space, space_to_depth
from dalle3_jax.pipeline.denoisers import (
    GuidanceRows,
    KnownRows,
    caching_denoiser,
    channels_beside,
    denoiser,
    guide_denoise,
    join_channels,
)
from dalle3_jax.pipeline.setting_values import HALO
from dalle3_jax.pipeline.specs import DecoderSpec, PipelineSpec
from dalle3_jax.pipeline.tiling import apply_in_tiles
from dalle3_jax.runtime.persistent_jit import persistent_jit
from dalle3_jax.typing import Array, Bool, Float, Int, Params

__all__ = [
    "INITIAL",
    "advance",
    "batch_over_mesh",
    "decode_latents",
    "decode_sharded",
    "encode_images",
    "encode_prompts",
    "fold_in_purpose",
    "freeze_text",
    "image_keys",
    "project_rows",
    "resample",
    "sample_decoder",
    "start",
    "start_inverted",
    "start_late",
    "steps_per_chunk",
]

# What of an image's noise a key is for: fold_in(key, INITIAL), ...; a decoder's own key is folded likewise.
INITIAL, LOOP, DECODER, LAYOUT = 0, 1, 2, 3
CORRECTIONS = 2
"""Fixed-point iterations of each step of an inversion."""

serialize_records(GuidanceRows, KnownRows, samplers.SamplerState)


@contextlib.contextmanager
def batch_over_mesh(mesh: Mesh | None, rows: int) -> Iterator[None]:
    """Within, programs run with so many images split over all devices of the mesh, if there is one and they divide.

    A TPU's attention kernel must be told so, or that they do not: XLA's partitioner cannot split it.
    """
    if mesh is None:
        yield
        return
    axes = None if rows % mesh.size else mesh.axis_names
    with jax.set_mesh(mesh), nn.logical_axis_rules((("batch", axes),)):
        yield


@persistent_jit(("system",))
def encode_prompts(
    params: Params,
    ids: Int[Array, "b l"],
    mask: Bool[Array, "b l"],
    glyphs: tuple[Int[Array, "b g"], Bool[Array, "b g"]] | None = None,
    seeds: Array | None = None,
    *,
    system: PipelineSpec,
) -> Condition:
    """The UNet's condition of tokenized prompts, and of the bytes that they quote where the system reads those.

    With seeds, for a system with a layout memory, a layout of each is sampled.
    """
    batch = {"ids": ids, "mask": mask}
    if glyphs is not None:
        batch |= {"glyph_ids": glyphs[0], "glyph_mask": glyphs[1]}
    if seeds is None:
        return encode_text(system.text_modules, params, batch)
    layout, text = sample_layout(system.text_modules, params, batch, fold_in_purpose(image_keys(seeds), LAYOUT))
    condition: Any = system.text_modules["layout_encoder"].apply({"params": params["layout_encoder"]}, layout, text)
    return condition


@persistent_jit(("shape", "past"))
def start(
    seeds: Array, std: Float[Array, ""], *, shape: tuple[int, int, int], past: int = 0
) -> tuple[samplers.SamplerState, Array]:
    """Noise of this std at the first time and the keys of the loop; an image's depend on its seed alone.

    `past` is what `samplers.past_outputs` says of the sampler.
    """
    keys = image_keys(seeds)
    initial, loop = fold_in_purpose(keys, INITIAL), fold_in_purpose(keys, LOOP)
    return samplers.initial_state(std * samplers.noise(initial, shape), past), loop


@persistent_jit(("system", "past"))
def start_late(
    seeds: Array,
    std: Float[Array, ""],
    latents: Float[Array, "b h w c"],
    t: Float[Array, ""],
    begin: Int[Array, ""],
    *,
    system: PipelineSpec,
    past: int = 0,
) -> tuple[samplers.SamplerState, Array, Float[Array, "b h w c"]]:
    """The state of `start` for a loop that begins at step `begin`, and its noise: latents noised to that step's time t.

    At step 0 it is the noise alone, as without an image.
    """
    keys = image_keys(seeds)
    initial, loop = fold_in_purpose(keys, INITIAL), fold_in_purpose(keys, LOOP)
    noise = samplers.noise(initial, latents.shape[1:])
    noised = system.schedule.alpha(t) * latents + system.schedule.sigma(t) * noise
    return samplers.initial_state(jnp.where(begin == 0, std * noise, noised), past), loop, noise


@persistent_jit(("system", "past"))
def start_inverted(
    params: Params,
    source: Condition,
    seeds: Array,
    latents: Float[Array, "b h w c"],
    times: Float[Array, " points"],
    count: Int[Array, ""],
    *,
    system: PipelineSpec,
    past: int = 0,
) -> tuple[samplers.SamplerState, Array]:
    """The state of `start` for a loop over the last `count` steps of these times: DDIM from there leads to the latents.

    `source` is the condition of what they show; nothing is guided. Only the loop's own keys depend on the seeds.
    """
    denoise = denoiser(params, source, system=system)
    x = invert(denoise, system.schedule, latents, times, CORRECTIONS, len(times) - 1 - count)
    return samplers.initial_state(x, past), fold_in_purpose(image_keys(seeds), LOOP)


@persistent_jit(("system",))
def project_rows(
    params: Params, condition: Condition, null: Condition | None, *, system: PipelineSpec
) -> ProjectedCondition:
    """The rows of the sampling loop: a condition and, where it is given, the null condition below it.

    The keys and values of the text are computed here, once for all steps. SDXL's refiner is led from images that look
    bad to good ones.
    """
    rows = condition
    if null is not None:
        rows = jax.tree.map(lambda rows, null_rows: jnp.concatenate([rows, null_rows]), condition, null)
    projected = project_condition(system.unet, params["unet"], rows)
    if system.unet.size_ids != REFINER_SIZE_IDS:
        return projected
    here = jnp.arange(len(rows.mask)) < len(condition.mask)
    return projected._replace(score=jnp.where(here, AESTHETIC_SCORE, NEGATIVE_AESTHETIC_SCORE))


@persistent_jit(("system", "sampler", "deep_cache"))
def advance(
    params: Params,
    rows: ProjectedCondition,
    guide: GuidanceRows | None,
    state: samplers.SamplerState,
    keys: Array,
    times: Float[Array, " points"],
    first: int | Int[Array, ""],
    count: int | Int[Array, ""],
    begin: int | Int[Array, ""] = 0,
    known: KnownRows | None = None,
    *,
    system: PipelineSpec,
    sampler: str,
    deep_cache: int = 1,
) -> samplers.SamplerState:
    """Steps first to first + count - 1 of the sampling loop over these times, guided where `guide` is given.

    `rows` are then those of `project_rows` with the null condition, else without; a UNet that reads the guidance scale
    needs none. The loop's own first step is `begin`. What is `known` of the images stays. With a `deep_cache` above 1,
    which divides first - begin, steps between its multiples from `begin` on reuse deep features.
    """
    step = samplers.find_step(sampler, system.prediction, system.clipping)
    if deep_cache == 1:
        scales = guide if system.unet.guidance_width else None
        denoise = denoiser(params, rows, scales, system=system, beside=channels_beside(known))
        denoise = guide_denoise(denoise, guide, known, system=system)
        return samplers.advance(step, denoise, system.schedule, state, times, keys, first, count, begin)
    denoise, features = caching_denoiser(params, rows, guide, known, state.x, deep_cache, begin, system=system)
    return samplers.advance_with_memory(
        step, denoise, system.schedule, state, features, times, keys, first, count, begin
    )


@persistent_jit(("system",))
def freeze_text(
    params: Params,
    rows: ProjectedCondition,
    x: Float[Array, "b h w c"],
    t: Float[Array, ""],
    known: KnownRows | None = None,
    *,
    system: PipelineSpec,
) -> ProjectedCondition:
    """The condition with what the text adds at time t, in every transformer, in place of its keys and values.

    The mean over the conditional and the null rows, where both are given: from then on nothing is guided (T-GATE,
    arXiv 2404.02747).
    """
    copies = len(rows.mask) // len(x)
    x_t, times = jnp.concatenate([x] * copies), jnp.full(len(rows.mask), t)
    x_t = prediction.scaled_input(system.prediction, x_t, system.schedule.alpha(times), system.schedule.sigma(times))
    x_t, time = join_channels(x_t, channels_beside(known)), system.schedule.network_time(times)
    *_, text = apply_unet_with_features(system.unet, params["unet"], x_t, time, rows, factor=system.latent.factor)
    frozen = {name: jnp.mean(jnp.stack(jnp.split(y, copies, axis=1)), axis=0) for name, y in text.items()}
    first = jax.tree.map(lambda leaf: leaf[:, : len(x)], rows.keys)
    keys = {name: {**own, "cross_attention": frozen[name]} for name, own in first.items()}
    score = None if rows.score is None else rows.score[: len(x)]
    grids = tuple(jnp.mean(jnp.stack(jnp.split(each, copies)), axis=0) for each in rows.grids)
    return ProjectedCondition(keys, rows.mask[: len(x)], rows.vector[: len(x)], score, grids)


@persistent_jit(("system", "steps"))
def resample(
    params: Params,
    condition: Condition,
    latents: Float[Array, "b h w c"],
    seeds: Array,
    strength: Float[Array, ""],
    *,
    system: PipelineSpec,
    steps: int,
) -> Float[Array, "b h w c"]:
    """Latents noised to t = strength and brought back to 0 in steps of DDIM, without guidance (SDEdit)."""
    fresh = samplers.noise(fold_in_purpose(image_keys(seeds), INITIAL), latents.shape[1:])
    times = strength * jnp.linspace(1.0, 0.0, steps + 1, dtype=jnp.float32)
    return sdedit(denoiser(params, condition, system=system), system.schedule, latents, fresh, times)


@persistent_jit(("vae", "tile"))
def encode_images(params: Params, images: Any, *, vae: nn.Module, tile: int = 0) -> Float[Array, "b h w c"]:
    """The mean of the VAE's own latents of images (b H W 3) in [-1, 1]; `params` are the VAE's.

    In windows of `tile` cells of the latents, or whole.
    """
    module: Any = vae

    def encode(images: Array) -> Array:
        mean, _ = _apply(module, params, images, method="encode")
        return mean

    if not tile:
        return encode(images)
    # Cells are what is tiled: pixels are folded into those of the latents.
    folded = _in_tiles(lambda cells: encode(depth_to_space(cells, module.factor)), tile)
    return folded(space_to_depth(images, module.factor))


@persistent_jit(("system", "tile"))
def decode_latents(
    params: Params, latents: Float[Array, "b h w c"], *, system: PipelineSpec, tile: int = 0
) -> Float[Array, "b H W 3"]:
    """Images from the UNet's latents: un-normalised here, once, and decoded, in windows of `tile` cells or whole."""

    def decoded(latents: Array) -> Array:
        return _apply(system.vae, params["vae"], latents, method="decode")

    return _in_tiles(decoded, tile)(system.latent.denormalise(latents))


@persistent_jit(("system",))
def decode_sharded(
    params: Params, latents: Float[Array, "b h w c"], *, system: PipelineSpec
) -> Float[Array, "b H W 3"]:
    """The same with the rows of every image split over all devices of the mesh in use, and equal to it.

    Convolutions exchange the rows at their borders, norms add up their statistics, attention passes keys round: no
    device ever holds a whole feature map. The latents' rows must divide over the devices.
    """
    axes = jax.sharding.get_abstract_mesh().axis_names
    with nn.logical_axis_rules((("height", axes),)):
        latents = nn.with_logical_constraint(system.latent.denormalise(latents), (None, "height", None, None))
        images = _apply(system.vae, params["vae"], latents, method="decode")
        return nn.with_logical_constraint(images, (None, "height", None, None))


def sample_decoder(
    params: Params, latents: Float[Any, "b h w c"], seeds: Any, *, decoder: DecoderSpec, tile: int = 0
) -> Float[Array, "b H W c_out"]:
    """Images, or a refiner's latents, from latents normalised as the decoder wants them.

    An image's noise depends on its seed alone, and is other noise than that of its latents. Programs are compiled for
    shapes and temperatures, one for a single step, which XLA rounds otherwise, and one for all other numbers of steps.
    """
    count, times = len(decoder.times), pad_times(np.asarray((*decoder.times, 0.0), np.float32))
    loop = None if count == 1 else (times, np.int32(count))
    decoder = dataclasses.replace(decoder, times=decoder.times[:1])
    return _sample_decoder(params, latents, seeds, loop, decoder=decoder, tile=tile)


@persistent_jit(("decoder", "tile"))
def _sample_decoder(
    params: Params,
    latents: Float[Array, "b h w c"],
    seeds: Array,
    loop: tuple[Float[Array, " points"], Int[Array, ""]] | None,
    *,
    decoder: DecoderSpec,
    tile: int,
) -> Float[Array, "b H W c_out"]:
    # Tiled at every step, not as a whole: the noise and every estimate are those of the whole image.
    whole = _in_tiles(functools.partial(_apply, decoder.module, params), tile)

    def network(x_t: Array, t: Array) -> Array:
        return whole(x_t, t, latents)

    keys = fold_in_purpose(image_keys(seeds), DECODER)
    height, width = (side * decoder.module.factor for side in latents.shape[1:3])
    noise = samplers.noise(fold_in_purpose(keys, INITIAL), (height, width, decoder.module.image_channels))
    denoise = prediction.denoiser(network, decoder.schedule, decoder.prediction, decoder.clamp)
    times, count = loop or (jnp.asarray((*decoder.times, 0.0), jnp.float32), 1)
    # Of the time and temperature that the program is compiled for: XLA multiplies them with the noise's own factor.
    x = decoder.temperature * decoder.schedule.sigma(jnp.asarray(decoder.times[0], jnp.float32)) * noise
    step = samplers.SAMPLERS[decoder.sampler]
    if decoder.sampler == "consistency":
        step = functools.partial(samplers.consistency, temperature=decoder.temperature)
    state = samplers.initial_state(x, samplers.past_outputs(step))
    keys = fold_in_purpose(keys, LOOP)
    return samplers.advance(step, denoise, decoder.schedule, state, times, keys, 0, count).x


def image_keys(seeds: Array) -> Array:
    """Each image's own key."""
    return jax.vmap(functools.partial(jax.random.key, impl="threefry2x32"))(seeds)  # whatever the user's default is


def fold_in_purpose(keys: Array, purpose: int) -> Array:
    """Keys for one purpose."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, purpose)


def _apply(module: nn.Module, params: Params, *inputs: Any, method: str | None = None) -> Any:
    return module.apply({"params": params}, *inputs, method=method)


def _in_tiles(function: Callable[..., Array], tile: int) -> Callable[..., Array]:
    """The function in windows of `tile` cells of the latents; 0: the function."""
    return apply_in_tiles(function, tile=tile, halo=HALO) if tile else function


def steps_per_chunk(steps: int) -> int:
    """The steps between two reports of progress: about ten reports, and a divisor so that one program runs them all."""
    return max(count for count in range(1, max(steps // 10, 1) + 1) if steps % count == 0)
