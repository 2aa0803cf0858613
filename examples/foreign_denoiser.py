"""Run our samplers, spacings and guidance on a denoiser of your own: a function (x_t, t) -> x0, and no more.

    python examples/foreign_denoiser.py

The one here is exact: the posterior mean of a small set of images, so that every sampler must end at one of them. The
second is a network that predicts noise on Stable Diffusion's table of 1,000 steps, which becomes such a function too.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dalle3_jax.diffusion import samplers
from dalle3_jax.diffusion.prediction import denoiser
from dalle3_jax.diffusion.schedules import Cosine, ScaledLinear
from dalle3_jax.diffusion.spacing import Spacing, sampling_times

IMAGES = jax.random.uniform(jax.random.key(0), (4, 8, 8, 3), minval=-1.0)


def posterior_mean(x_t, alpha, sigma):
    """E[x0 | x_t] where x0 is one of IMAGES, each as likely as any other; alpha and sigma are rows (b)."""
    distance = jnp.sum((x_t[:, None] - alpha[:, None, None, None, None] * IMAGES) ** 2, axis=(2, 3, 4))
    weights = jax.nn.softmax(-distance / (2 * jnp.maximum(sigma, 1e-4)[:, None] ** 2))
    return jnp.einsum("bn,nhwc->bhwc", weights, IMAGES)


def predict_noise(x_t, index):
    """A network of somebody else: the noise in x_t at an entry of Stable Diffusion's table."""
    table = ScaledLinear()
    t = (index + 1) / table.steps
    alpha, sigma = table.alpha(t), table.sigma(t)
    x0 = posterior_mean(x_t, alpha, sigma)
    return (x_t - alpha[:, None, None, None] * x0) / sigma[:, None, None, None]


def sample(name, denoise, schedule, spacing, steps=20):
    """Samples (2 8 8 3) of the sampler of this name."""
    keys = jax.random.split(jax.random.key(1), 2)
    times = sampling_times(schedule, steps, spacing, name)
    x = samplers.noise(keys, IMAGES.shape[1:])
    return jax.jit(samplers.sample, static_argnums=(0, 1, 2))(
        samplers.find_step(name), denoise, schedule, x, times, keys
    )


def main(names=("ddim", "euler_ancestral", "heun", "dpmsolver++", "unipc")):
    """(sampler, denoiser) -> the largest distance of a sample from the nearest of IMAGES."""
    cosine, table = Cosine(), ScaledLinear()
    foreign = {
        "x0": (lambda x_t, t: posterior_mean(x_t, cosine.alpha(t), cosine.sigma(t)), cosine, Spacing()),
        "eps": (denoiser(predict_noise, table, "eps"), table, Spacing("karras")),
    }
    errors = {}
    for name in names:
        for kind, (denoise, schedule, spacing) in foreign.items():
            images = np.asarray(sample(name, denoise, schedule, spacing))
            distances = np.abs(images[:, None] - np.asarray(IMAGES)).max((2, 3, 4))
            errors[name, kind] = float(distances.min(axis=1).max())
    return errors


if __name__ == "__main__":
    for (name, kind), error in main().items():
        print(f"{name:16} of a denoiser that predicts {kind:3}: {error:.1e} from an image of the set")
