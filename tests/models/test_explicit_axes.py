"""Networks and pipelines on a mesh as `jax.make_mesh` makes it: explicit axes, rows and parameters split over them."""

from tests.training.test_sharding import run_on

SETTINGS = """
import contextlib
import jax, jax.numpy as jnp, numpy as np
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec as P
from dalle3_jax.models.build import NETWORK_CLASSES

def put(array, mesh, spec):
    return jax.device_put(array, NamedSharding(mesh, spec))

def split(array, mesh, names):
    # Along the longest axis that the devices divide, stacked layers whole.
    count = mesh.size
    axes = [axis for axis, length in enumerate(array.shape) if length % count == 0]
    longest = max(axes, key=lambda axis: array.shape[axis], default=None)
    return put(array, mesh, P() if longest is None else P(*[None] * longest, names))

def close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4), a, b)
"""

NETWORKS = (
    SETTINGS
    + """
from tests.models.test_build import MODULES
from tests.networks import randomised

def inputs(module):
    # Eight rows of what the network takes.
    rng = np.random.default_rng(0)
    makers = {"b": lambda shape: rng.random(shape) > 0.2, "i": lambda shape: rng.integers(3, 9, shape)}
    return jax.tree.map(
        lambda x: jnp.asarray(makers.get(x.dtype.kind, rng.random)((8, *x.shape[1:])), x.dtype),
        module.example_inputs(system),
    )

mesh = jax.make_mesh((4, 2), ("data", "model"))
assert jax.sharding.AxisType.Explicit in mesh.axis_types
system = {"text_encoder": MODULES[0], "glyph_encoder": MODULES[0], "xfnet": MODULES[1]}
system["layout_head"] = next(module for module in MODULES if type(module).__name__ == "LayoutHead")
seen = set()
for number, module in enumerate(MODULES):
    name = type(module).__name__
    module, arguments = module.clone(groups=2) if hasattr(module, "groups") else module, inputs(module)
    params = {"params": randomised(module, *arguments)}
    alone = jax.jit(module.apply)(params, *arguments)
    rows = jax.tree.map(lambda x: put(x, mesh, P(("data", "model"))), arguments)
    # Parameters whole and split, within the mesh and outside it, in turn; the small one eagerly too.
    spread = jax.tree.map(lambda x: split(x, mesh, "model") if number % 2 else put(x, mesh, P()), params)
    for apply in (jax.jit(module.apply), *([module.apply] if name == "SizeHead" else [])):
        with jax.set_mesh(mesh) if number % 4 < 2 else contextlib.nullcontext():
            together = apply(spread, *rows)
        close(alone, together)
        for leaf in jax.tree.leaves(together):
            if leaf.ndim and leaf.shape[0] == 8:
                assert leaf.sharding.spec[0] == ("data", "model"), (name, leaf.sharding)
                assert leaf.sharding.mesh == mesh, name
    print(name, flush=True)
    seen.add(type(module))
assert seen == set(NETWORK_CLASSES.values()), set(NETWORK_CLASSES.values()) - seen
"""
)

PIPELINE = (
    SETTINGS
    + """
from dalle3_jax.checkpoints.releases import save_release
from dalle3_jax.pipeline import Pipeline
from tests.tiny import tiny_release
import sys, tempfile

with tempfile.TemporaryDirectory() as folder:
    folder = folder + "/tiny"
    save_release(folder, tiny_release())
    mesh = jax.make_mesh((8,), ("data",))
    one = Pipeline.load(folder)
    plain = one("a fox", n=8, size=(16, 16), steps=2, batch_size=8)
    sharding = NamedSharding(mesh, P())
    layouts = {
        "data-parallel": {},
        "split": {"shardings": lambda boxed: jax.tree.map(
            lambda leaf: NamedSharding(mesh, P(*[None] * (leaf.ndim - 1), "data")
                                       if leaf.ndim > 1 and leaf.shape[-1] % 8 == 0 else P()), nn.unbox(boxed))},
    }
    for name, how in layouts.items():
        many = Pipeline.load(folder, mesh=mesh, **how)
        lies = {leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(many.params)}
        assert lies == ({True} if name == "data-parallel" else {True, False}), (name, lies)
        for a, b in zip(plain, many("a fox", n=8, size=(16, 16), steps=2, batch_size=8), strict=True):
            apart = np.abs(np.asarray(a.image, np.int16) - np.asarray(b.image, np.int16))
            assert (apart <= 1).mean() > 0.999, (name, apart.max())
    # What a caller brings may lie on the caller's mesh.
    images = np.zeros((8, 16, 16, 3), np.float32)
    latents = many.codec.encode(put(images, mesh, P("data")))
    close(latents, one.codec.encode(images))
    close(many.codec.decode(put(np.asarray(latents), mesh, P("data"))), one.codec.decode(np.asarray(latents)))
"""
)


def test_every_network_runs_on_explicit_axes():
    run_on(8, NETWORKS)


def test_a_pipeline_runs_on_explicit_axes_with_parameters_whole_and_split():
    run_on(8, PIPELINE)
