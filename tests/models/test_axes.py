"""Logical axes: every parameter names them, and constrained activations really are sharded."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from dalle3_jax.models.clip import CLIP, CLIPTextEncoder, Tower
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import Level, UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.models.xfnet import XFNet
from tests.networks import abstract, condition

NAMES = {"embed", "out", "heads", "mlp", "from_heads", "from_mlp", "from_vocab", "layers", "whole", None}
TEXT, MASK = jnp.zeros((1, 4, 8)), jnp.ones((1, 4), bool)
LATENTS = (jnp.zeros((1, 4, 4, 4)), jnp.zeros(1), condition(1), jnp.zeros((1, 6)))
LEVELS = (Level(8, 1, 0), Level(8, 1, 2, 2))
NETWORKS = {
    "t5": (T5Encoder(30, 8, 2, 2, 4, 12), (jnp.zeros((1, 4), int), MASK)),
    "t5_v1.0": (T5Encoder(30, 8, 1, 2, 4, 12, "relu"), (jnp.zeros((1, 4), int), MASK)),
    "clip_text": (CLIPTextEncoder(30, 8, 2, 2, 12, projection=6), (jnp.zeros((1, 4), int), MASK)),
    "clip": (
        CLIP(Tower(8, 1, 2, 12), Tower(8, 2, 2, 12), 30, 6, image_size=8, patch=4),
        (jnp.zeros((1, 4), int), MASK, jnp.zeros((1, 8, 8, 3))),
    ),
    **{kind: (XFNet(kind, 8, 3, heads=2), (TEXT, MASK)) for kind in ("linear", "mlp", "transformer", "resampler")},
    "xfnet_glyphs": (XFNet("linear", 8, 3, heads=2, glyphs=True), (TEXT, MASK, (TEXT, MASK))),
    "unet": (UNet(LEVELS, groups=2, size_ids=6, qk_norm=True), LATENTS),
    "unet_add": (UNet(LEVELS, groups=2, size_ids=6, time_conditioning="add"), LATENTS),
    "unet_affine": (UNet(LEVELS, groups=2, size_ids=6, affine=True), LATENTS),
    "vae": (VAE(channels=(4, 8), groups=2), (jnp.zeros((1, 8, 8, 3)),)),
    "vae_rms": (VAE(channels=(4, 8), groups=2, norm="rms"), (jnp.zeros((1, 8, 8, 3)),)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_names_each_of_its_axes(name):
    module, arguments = NETWORKS[name]
    boxed = abstract(module, *arguments)
    leaves = jax.tree_util.tree_leaves_with_path(boxed, is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned))
    assert leaves
    for path, leaf in leaves:
        where = jax.tree_util.keystr(path)
        assert isinstance(leaf, nn.Partitioned), where
        assert len(leaf.names) == len(leaf.value.shape), where
        assert set(leaf.names) <= NAMES, where
        assert any(leaf.names) or not leaf.value.shape, where
        assert (leaf.names[:1] == ("layers",)) == ("'layers'" in where), where
    specs = jax.tree.leaves(
        nn.get_partition_spec(boxed), is_leaf=lambda leaf: isinstance(leaf, jax.sharding.PartitionSpec)
    )
    assert [tuple(spec) for spec in specs] == [tuple(leaf.names) for _, leaf in leaves]


PROGRAM = """
    import jax, jax.numpy as jnp
    from flax import linen as nn
    from jax.sharding import AxisType
    from dalle3_jax.models.t5 import T5Block
    from dalle3_jax.nn.resnet import ResBlock
    from dalle3_jax.nn.transformer import SpatialTransformer

    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    image, tokens = jnp.ones((8, 4, 4, 8)), jnp.ones((8, 3, 8))
    keep = jnp.ones((8, 3), bool)
    cases = {
        "res_block": (ResBlock(8, groups=2), (image,)),
        "transformer": (SpatialTransformer(1, 2, 4, groups=2), (image, tokens, keep)),
        "t5_block": (T5Block(2, 4, 8, "relu"), (tokens, keep, jnp.zeros((1, 2, 3, 3)))),
    }
    for rules in ((("batch", "data"), ("height", "tensor")), ()):
        for name, (module, arguments) in cases.items():
            params = nn.unbox(jax.eval_shape(module.init, jax.random.key(0), *arguments))
            params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), params)
            with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
                out = jax.tree.leaves(jax.jit(lambda p: module.apply(p, *arguments))(params))[0]
            print(name, out.sharding.shard_shape(out.shape))
"""


def test_constrained_activations_are_sharded_and_only_with_rules():
    """Eight virtual devices; `with_logical_constraint` says nothing when no rule is set, hence the control."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [
        "res_block (2, 2, 4, 8)",
        "transformer (2, 2, 4, 8)",
        "t5_block (2, 3, 8)",
        "res_block (8, 4, 4, 8)",
        "transformer (8, 4, 4, 8)",
        "t5_block (8, 3, 8)",
    ]
