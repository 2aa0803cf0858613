"""The tasks of diffusion models: the clean x0 of a batch, and the network conditioned on what goes with it.

Diffusion training and consistency distillation take any of these: the base model's (text to latents), the pixel
decoder's (latents to images), the refiner's (perturbed latents to clean ones) and the upscaler's (small images to
large ones).

The networks come as functions of their parameters, so that any will do: `models.condition.encode_text` for
`encode_text`, `models.unet_call.apply_unet` for `unet`, with their modules bound.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dalle3_jax.diffusion import prediction
from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.diffusion.sdedit import sdedit
from dalle3_jax.typing import Array, Denoise, Float, Int, Key, Params

__all__ = [
    "BaseModel",
    "Batch",
    "EncodeLatents",
    "EncodeText",
    "MakeTask",
    "Perturbation",
    "Task",
    "conditioned_unet",
    "latent_decoder",
    "perturb_latents",
    "text_to_image",
    "upscale",
]

Apply = Callable[..., Any]
Batch = Mapping[str, Array]
Images = Float[Array, "b h w c"]
Rows = Float[Array, " b"]
Network = Callable[..., Images]
"""(parameters of the component, x_t [b h w c], network time [b]) -> its output; a guidance scale [b] may follow."""
EncodeText = Callable[[Params, Batch], Any]
"""(parameters of every component, batch) -> the condition of the batch's text."""
EncodeLatents = Callable[[Params, Batch], Images]
"""(parameters of every component, batch) -> the batch's latents, normalised as the UNet sees them."""


class Task(NamedTuple):
    """Clean x0 and the network on the batch's conditions; `null` is the same on the null condition, where asked for."""

    x0: Images
    network: Network
    null: Network | None = None


MakeTask = Callable[[Params, Batch, Key], Task]
"""(parameters of every component, batch, key) -> the task that the batch poses."""


def conditioned_unet(unet: Apply, condition: Any, batch: Batch) -> Network:
    """The UNet on a condition and the batch's size ids: unet(params, x_t, t, condition, sizes[, guidance scale])."""
    return lambda params, x_t, t, *guidance: unet(params, x_t, t, condition, batch.get("sizes"), *guidance)


def text_to_image(
    encode_latents: EncodeLatents, encode_text: EncodeText, unet: Apply, *, null: Mapping[str, Any] | None = None
) -> MakeTask:
    """The base model's task: latents from captions.

    unet(params, x_t, t, condition, sizes) is given the batch's size ids where it has any. `null` holds the empty
    caption as a batch has it, for guidance.
    """

    def make_task(weights: Params, batch: Batch, key: Key) -> Task:
        x0 = encode_latents(weights, batch)
        if null is None:
            return Task(x0, conditioned_unet(unet, encode_text(weights, batch), batch))
        empty = {name: jnp.repeat(jnp.asarray(row), len(x0), axis=0) for name, row in null.items()}
        rows = encode_text(weights, batch), encode_text(weights, empty)
        return Task(x0, *(conditioned_unet(unet, condition, batch) for condition in rows))

    return make_task


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
    denoise_base: Denoise | None = None,
    schedule: Schedule | None = None,
) -> Images:
    """Corrupted latents; `denoise_base` is the base model's Denoise under `schedule`, which re-sampling needs."""
    level_key, noise_key, chance_key, time_key, fresh_key = jax.random.split(key, 5)
    count = len(latents)
    if perturbation.resampled:
        if denoise_base is None or schedule is None:
            raise ValueError("re-sampling needs the base model: give text_encoder, xfnet and unet, or set it to 0")
        t = perturbation.strength * jax.random.uniform(time_key, (count,), jnp.float32, minval=0.05)
        fresh = jax.random.normal(fresh_key, latents.shape, jnp.float32)
        times = [t * (perturbation.steps - done) / perturbation.steps for done in range(perturbation.steps + 1)]
        edited = sdedit(denoise_base, schedule, latents, fresh, times)
        chosen = jax.random.bernoulli(chance_key, jnp.float32(perturbation.resampled), (count,))
        latents = jnp.where(_as_columns(chosen), edited, latents)
    level = perturbation.noise * jnp.maximum(2 * jax.random.uniform(level_key, (count,), jnp.float32) - 1, 0)
    return latents + _as_columns(level) * jax.random.normal(noise_key, latents.shape, jnp.float32)


class BaseModel(NamedTuple):
    """The frozen text-to-image model that re-samples latents: its networks, its schedule and its prediction."""

    encode_text: EncodeText
    unet: Apply
    schedule: Schedule
    predict: str

    def denoiser(self, weights: Params, batch: Batch) -> Denoise:
        """Its Denoise on the batch's captions."""
        network = conditioned_unet(self.unet, self.encode_text(weights, batch), batch)
        return prediction.denoiser(lambda x_t, t: network(weights["unet"], x_t, t), self.schedule, self.predict)


def latent_decoder(
    encode_latents: EncodeLatents,
    network: Apply,
    component: str,
    *,
    perturbation: Perturbation = NO_PERTURBATION,
    base: BaseModel | None = None,
    crop: int = 0,
) -> MakeTask:
    """A decoder's task: from the frozen VAE's perturbed latents to the image, for a `refiner` to the clean latents.

    network(params, x_t, t, latents) is the component's. Re-sampling takes the `base` model. `crop` is the side, in
    cells of the latents, of a random part that is trained on; 0: the whole.
    """

    def make_task(weights: Params, batch: Batch, key: Key) -> Task:
        perturb_key, crop_key = jax.random.split(key)
        clean = encode_latents(weights, batch)
        denoise, schedule = None, None
        if base is not None and perturbation.resampled:
            denoise, schedule = base.denoiser(weights, batch), base.schedule
        given = jax.lax.stop_gradient(perturb_latents(clean, perturb_key, perturbation, denoise, schedule))
        x0 = clean if component == "refiner" else batch["images"]
        if crop:
            x0, given = _crop_aligned(x0, given, crop_key, crop)
        return Task(x0, lambda params, x_t, t: network(params, x_t, t, given))

    return make_task


def upscale(
    encode_text: EncodeText,
    upscaler: Apply,
    *,
    noise_schedule: Schedule,
    most_noise: float,
    encode_latents: EncodeLatents | None = None,
    null: Mapping[str, Any] | None = None,
) -> MakeTask:
    """The upscaler's task: `images`, or their latents, from `low_images` of a random noise level and captions.

    upscaler(params, x_t, t, low images, noise level, condition, sizes) is given the batch's size ids where it has any.
    Levels are uniform in [0, most_noise], times of `noise_schedule`. `null` holds the empty caption as a batch has it,
    for guidance.
    """

    def make_task(weights: Params, batch: Batch, key: Key) -> Task:
        level_key, noise_key = jax.random.split(key)
        x0 = batch["images"] if encode_latents is None else encode_latents(weights, batch)
        low, sizes = batch["low_images"], batch.get("sizes")
        level = most_noise * jax.random.uniform(level_key, (len(low),))
        alpha, sigma = _as_columns(noise_schedule.alpha(level)), _as_columns(noise_schedule.sigma(level))
        noisy = alpha * low + sigma * jax.random.normal(noise_key, low.shape)
        noise_level = noise_schedule.network_time(level)

        def network(captions: Batch) -> Network:
            condition = encode_text(weights, captions)
            return lambda params, x_t, t: upscaler(params, x_t, t, noisy, noise_level, condition, sizes)

        if null is None:
            return Task(x0, network(batch))
        empty = {name: jnp.repeat(jnp.asarray(row), len(x0), axis=0) for name, row in null.items()}
        return Task(x0, network(batch), network(empty))

    return make_task


def _crop_aligned(
    images: Float[Array, "b h w c"], latents: Float[Array, "b h2 w2 c2"], key: Key, side: int
) -> tuple[Float[Array, "b s s c"], Float[Array, "b s2 s2 c2"]]:
    """The same random part of every image and of its latents, `side` cells of the latents in height and width."""
    b, h, w, _ = latents.shape
    factor = images.shape[1] // h
    free = jnp.asarray([h - side + 1, w - side + 1])
    places = jnp.floor(jax.random.uniform(key, (b, 2), jnp.float32) * free).astype(jnp.int32)

    def cut(image: Float[Array, "h w c"], place: Int[Array, " 2"], times: int) -> Float[Array, "h2 w2 c"]:
        corner = (*(times * place), 0)
        return jax.lax.dynamic_slice(image, corner, (times * side, times * side, image.shape[-1]))

    cut_all = jax.vmap(cut, (0, 0, None))
    return cut_all(images, places, factor), cut_all(latents, places, 1)


def _as_columns(rows: Array) -> Array:
    return rows[:, None, None, None]
