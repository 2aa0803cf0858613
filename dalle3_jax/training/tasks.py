"""What a diffusion model is to learn from a batch: the clean x0, and its network told what it may know of it.

Diffusion training and consistency distillation take any of these: the base model's (text to latents), the pixel
decoder's (latents to images) and the refiner's (perturbed latents to clean ones).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dalle3_jax.diffusion import prediction
from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.diffusion.sdedit import sdedit
from dalle3_jax.typing import Array, Float, Int, Key, Params

__all__ = [
    "MakeTask",
    "Perturbation",
    "Task",
    "latent_decoder",
    "normalise_latents",
    "perturb_latents",
    "text_condition",
    "text_to_image",
]

Apply = Callable[..., Any]
Batch = Mapping[str, Array]
Images = Float[Array, "b h w c"]
Rows = Float[Array, " b"]
Network = Callable[[Params, Images, Rows], Images]
"""(parameters of the component, x_t, network time) -> its output."""


class Task(NamedTuple):
    """Clean x0 and the network on the batch's conditions; `null` is the same on the null condition, where asked for."""

    x0: Images
    network: Network
    null: Network | None = None


MakeTask = Callable[[Params, Batch, Key], Task]
"""(parameters of every component, batch, key) -> the task that the batch poses."""


def normalise_latents(
    networks: Mapping[str, Apply], weights: Params, batch: Batch, shift: Sequence[float], scale: Sequence[float]
) -> Images:
    """The batch's latents, encoded where it holds images, as the UNet sees them: (z - shift) * scale per channel.

    `encode` gets None for its parameters where there is no VAE.
    """
    latents = batch["latents"] if "latents" in batch else networks["encode"](weights.get("vae"), batch["images"])[0]
    return (latents.astype(jnp.float32) - jnp.asarray(shift, jnp.float32)) * jnp.asarray(scale, jnp.float32)


def text_condition(networks: Mapping[str, Apply], weights: Params, batch: Batch) -> Any:
    """What xfnet makes of the batch's captions, and where there is a `glyph_encoder` of the bytes that they quote.

    A batch may hold the text encoder's `features` instead of `ids`.

    Without an xfnet the text encoder (CLIP's) gives the condition itself, beside a second one where there is one.
    """
    if "features" in batch:
        features: Any = batch["features"]
    else:
        features = networks["text_encoder"](weights["text_encoder"], batch["ids"], batch["mask"])
    text = features, batch["mask"]
    if "text_encoder_2" in networks:
        return text[0].concatenate(networks["text_encoder_2"](weights["text_encoder_2"], batch["ids"], batch["mask"]))
    if "xfnet" not in networks:
        return text[0]
    if "glyph_encoder" not in networks:
        return networks["xfnet"](weights["xfnet"], *text)
    letters = networks["glyph_encoder"](weights["glyph_encoder"], batch["glyph_ids"], batch["glyph_mask"])
    return networks["xfnet"](weights["xfnet"], *text, (letters, batch["glyph_mask"]))


def text_to_image(
    networks: Mapping[str, Apply],
    *,
    shift: Sequence[float],
    scale: Sequence[float],
    sizes: bool = False,
    null: Mapping[str, Any] | None = None,
) -> MakeTask:
    """The base model's task: latents from captions.

    networks: `text_encoder`, `xfnet`, `unet`, for quoted text `glyph_encoder` and, for batches of images, `encode`,
    each taking its parameters first. `sizes` hands the batch's size ids to the UNet. `null` holds the empty caption as
    a batch has it, for guidance.
    """

    def pose(weights: Params, batch: Batch, key: Key) -> Task:
        x0 = normalise_latents(networks, weights, batch, shift, scale)
        size_ids = batch["sizes"] if sizes else None

        def network(rows: Any) -> Network:
            return lambda params, x_t, t: networks["unet"](params, x_t, t, rows, size_ids)

        if null is None:
            return Task(x0, network(text_condition(networks, weights, batch)))
        empty = {name: jnp.repeat(jnp.asarray(row), len(x0), axis=0) for name, row in null.items()}
        rows = text_condition(networks, weights, batch), text_condition(networks, weights, empty)
        return Task(x0, *map(network, rows))

    return pose


class Perturbation(NamedTuple):
    """The corruption of latents, like that of a base model's samples, that a decoder learns to repair.

    Half of the images get white noise, of a standard deviation up to `noise`. With the chance `resampled` an image is
    noised to a time up to `strength` and brought back by the base model in `steps` steps of DDIM.
    """

    noise: float = 0.0
    resampled: float = 0.0
    strength: float = 0.5
    steps: int = 2


NO_PERTURBATION = Perturbation()


def perturb_latents(
    latents: Images,
    key: Key,
    perturbation: Perturbation,
    denoise_base: Callable[[Images, Rows], Images] | None = None,
    schedule: Schedule | None = None,
) -> Images:
    """Corrupted latents; `denoise_base` is the base model's Denoise under `schedule`, which re-sampling needs."""
    level_key, noise_key, chance_key, time_key, fresh_key = jax.random.split(key, 5)
    count = len(latents)
    if perturbation.resampled:
        if denoise_base is None or schedule is None:
            raise ValueError("re-sampling needs the base model: give text_encoder, xfnet and unet, or set it to 0")
        t = perturbation.strength * jax.random.uniform(time_key, (count,), minval=0.05)
        fresh = jax.random.normal(fresh_key, latents.shape)
        times = [t * (perturbation.steps - done) / perturbation.steps for done in range(perturbation.steps + 1)]
        edited = sdedit(denoise_base, schedule, latents, fresh, times)
        chosen = jax.random.bernoulli(chance_key, perturbation.resampled, (count,))
        latents = jnp.where(_as_columns(chosen), edited, latents)
    level = perturbation.noise * jnp.maximum(2 * jax.random.uniform(level_key, (count,)) - 1, 0)
    return latents + _as_columns(level) * jax.random.normal(noise_key, latents.shape)


def latent_decoder(
    networks: Mapping[str, Apply],
    component: str,
    *,
    shift: Sequence[float],
    scale: Sequence[float],
    perturbation: Perturbation = NO_PERTURBATION,
    base: tuple[Schedule, str] | None = None,
    crop: int = 0,
) -> MakeTask:
    """A decoder's task: from the frozen VAE's perturbed latents to the image, for a `refiner` to the clean latents.

    networks: `encode` and the component; for re-sampling `text_encoder`, `xfnet` and `unet` too, with the schedule and
    the prediction of the base model in `base`. `crop` is the side, in cells of the latents, of a random part that is
    trained on; 0: the whole.
    """

    def pose(weights: Params, batch: Batch, key: Key) -> Task:
        spoil_key, crop_key = jax.random.split(key)
        clean = normalise_latents(networks, weights, batch, shift, scale)
        denoise, schedule = None, None
        if base is not None and perturbation.resampled:
            condition = text_condition(networks, weights, batch)
            schedule, predict = base
            denoise = prediction.denoiser(
                lambda x_t, t: networks["unet"](weights["unet"], x_t, t, condition, None), schedule, predict
            )
        given = jax.lax.stop_gradient(perturb_latents(clean, spoil_key, perturbation, denoise, schedule))
        x0 = clean if component == "refiner" else batch["images"]
        if crop:
            x0, given = _crop_aligned(x0, given, crop_key, crop)
        return Task(x0, lambda params, x_t, t: networks[component](params, x_t, t, given))

    return pose


def _crop_aligned(
    images: Float[Array, "b h w c"], latents: Float[Array, "b h2 w2 c2"], key: Key, side: int
) -> tuple[Float[Array, "b s s c"], Float[Array, "b s2 s2 c2"]]:
    """The same random part of every image and of its latents, `side` cells of the latents in height and width."""
    b, h, w, _ = latents.shape
    factor = images.shape[1] // h
    places = jnp.floor(jax.random.uniform(key, (b, 2)) * jnp.asarray([h - side + 1, w - side + 1])).astype(jnp.int32)

    def cut(image: Float[Array, "h w c"], place: Int[Array, " 2"], times: int) -> Float[Array, "h2 w2 c"]:
        corner = (*(times * place), 0)
        return jax.lax.dynamic_slice(image, corner, (times * side, times * side, image.shape[-1]))

    cut_all = jax.vmap(cut, (0, 0, None))
    return cut_all(images, places, factor), cut_all(latents, places, 1)


def _as_columns(rows: Array) -> Array:
    return rows[:, None, None, None]
