"""Decoding with the rows of an image split over devices: equal to the whole, and no device holds a feature map."""

import jax
import pytest

from dalle3_jax.pipeline import Pipeline
from tests.training.test_sharding import run_on

PROGRAM = """
import re, sys
import jax, numpy as np
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec as P
from dalle3_jax.pipeline import programs
from dalle3_jax.pipeline.specs import PipelineSpec
from dalle3_jax.checkpoints.latents import Latent
from dalle3_jax.models.vae import VAE
from dalle3_jax.training import sharding
from types import SimpleNamespace

VAES = {
    "stable_diffusion": VAE(channels=(8, 8, 16), groups=2, blocks=1, decoder_blocks=2),
    "ours": VAE(channels=(8,), blocks=1, decoder_blocks=1, patch=8, norm="rms", attention=False, quant_convs=False),
}
devices = jax.device_count()
for name, vae in VAES.items():
    side = 2 * devices
    latents = jax.random.normal(jax.random.key(0), (1, side, 12, 4))
    params = {"vae": nn.unbox(jax.jit(vae.init)(jax.random.key(1), jnp.zeros((1, 32, 32, 3)))["params"])}
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), params)
    latent = Latent(4, vae.factor, (0.1,) * 4, (0.8,) * 4)
    system = PipelineSpec(None, None, vae, None, "v", latent)
    whole = programs.decode_latents(params, latents, system=system)
    mesh = sharding.make_mesh({"data": devices})
    with jax.set_mesh(mesh):
        split = jax.device_put(latents, NamedSharding(mesh, P(None, mesh.axis_names)))
        text = programs.decode_sharded.lower(params, split, system=system).compile().as_text()
        found = programs.decode_sharded(params, split, system=system)
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-5)
    assert found.sharding.shard_shape(found.shape)[1] == found.shape[1] // devices
    assert "all-gather" not in text and "all-to-all" not in text, name
    assert "collective-permute" in text
    lines = [line.split(" all-reduce")[0] for line in text.splitlines() if " all-reduce" in line]
    reduced = [re.findall(r"f32\\[([\\d,]*)\\]", line) for line in lines]
    sizes = [int(np.prod([int(n) for n in shape.split(",") if n])) for shapes in reduced for shape in shapes]
    largest = max(sizes, default=0)
    assert largest <= 32, largest  # statistics of norms
"""


@pytest.mark.parametrize("devices", [4])
def test_a_split_image_is_the_whole_one_and_no_feature_map_is_gathered(devices):
    run_on(devices, PROGRAM)


def test_what_cannot_be_split_is_named():
    pipeline = Pipeline.load("demo")
    latents = jax.numpy.zeros((1, 16, 16, 8))
    with pytest.raises(ValueError, match="16 rows of latents on no mesh: decode_sharded needs"):
        pipeline.codec.decode_sharded(latents)
