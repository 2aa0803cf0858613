"""Batches split over devices: the pictures of one device, whether the images divide or not; TPU's kernel told so."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import Mesh

from dalle3_jax.pipeline import programs
from tests.training.test_sharding import run_on

ROOT = Path(__file__).parents[2]

PICTURES = """
import jax, numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from dalle3_jax.pipeline import programs
from dalle3_jax.pipeline import Pipeline
from tests.tiny import tiny_release

release = tiny_release()
mesh = Mesh(np.asarray(jax.devices()), "data")
one, many = Pipeline(release), Pipeline(release, mesh=mesh)
for count in (2, 3):
    how = {"size": (16, 16), "steps": 2, "batch_size": count}
    made = [pipeline([f"a fox {i}" for i in range(count)], **how) for pipeline in (one, many)]
    for a, b in zip(*made, strict=True):
        apart = np.abs(np.asarray(a.image, np.int16) - np.asarray(b.image, np.int16))
        assert (apart <= 1).mean() > 0.999, (count, apart.max())
    with programs.batch_over_mesh(mesh, count):
        assert nn.get_logical_axis_rules() == (("batch", ("data",) if count == 2 else None),)
"""

UPSCALED = """
import jax, numpy as np
from jax.sharding import Mesh
from dalle3_jax.pipeline import upscaling
from dalle3_jax.pipeline.request import Upscaling
from dalle3_jax.pipeline.upscaler import Upscaler
from tests.tiny import tiny_upscaler

release, mesh = tiny_upscaler(), Mesh(np.asarray(jax.devices()), "data")
advance, held = upscaling.advance_upscaling, []

def advance_and_note(*inputs, **how):
    state = advance(*inputs, **how)
    held.append(state.loop.x.sharding.shard_shape(state.loop.x.shape))
    return state

upscaling.advance_upscaling = advance_and_note
one, many = Upscaler(release), Upscaler(release, mesh)
images = np.random.default_rng(0).uniform(-1, 1, (3, 16, 12, 3)).astype(np.float32)
for rows in (16, 12):  # 32 rows of the output divide over 8 devices in cells of 4 pixels, 24 do not
    how = {"prompts": ["a fox", "two", "a hat"], "seeds": [1, 2, 3]}
    images = images[:, :rows]
    whole, split = (upscaler(images, Upscaling(2, steps=1, guidance_scale=1.0), **how) for upscaler in (one, many))
    np.testing.assert_allclose(split, whole, atol=1e-4)
    assert whole.std() > 0.1
assert held == [(3, 32, 24, 3), (3, 4, 24, 3), (3, 24, 24, 3), (3, 24, 24, 3)], held
"""

KERNEL = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from dalle3_jax.pipeline import programs
from dalle3_jax.nn.attention import attend

mesh = Mesh(np.asarray(topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices), "data")
for rows in (4, 3):
    placed = NamedSharding(mesh, P("data") if rows == 4 else P())
    x = jax.ShapeDtypeStruct((rows, 512, 1, 64), jnp.bfloat16, sharding=placed)
    with programs.batch_over_mesh(mesh, rows):
        text = jax.jit(lambda q, k, v: attend(q, k, v, scale=0.1)).lower(x, x, x).compile().as_text()
    assert "tpu_custom_call" in text, rows
    assert "all-gather" not in text, rows
"""


def test_a_batch_over_a_mesh_is_the_one_of_a_device_whether_it_divides_or_not():
    run_on(2, PICTURES)


def test_fewer_enlarged_images_than_devices_are_split_by_rows_and_are_those_of_one_device():
    run_on(8, UPSCALED)


def test_rows_are_split_where_they_divide_and_nothing_is_said_without_a_mesh():
    mesh = Mesh(np.asarray(jax.devices()[:1]), "data")
    with programs.batch_over_mesh(mesh, 3):
        assert nn.get_logical_axis_rules() == (("batch", ("data",)),)
        assert jax.sharding.get_abstract_mesh().axis_names == ("data",)
    with programs.batch_over_mesh(None, 3):
        assert not nn.get_logical_axis_rules()
        assert jax.sharding.get_abstract_mesh().empty


@pytest.mark.skipif(
    not (find_spec("libtpu") or os.environ.get("TPU_LIBRARY_PATH")), reason="compiles for a TPU: needs libtpu"
)
def test_tpu_s_attention_kernel_compiles_over_a_mesh():
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KERNEL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    if "lockfile" in done.stderr:
        pytest.skip("libtpu is at work in another process")
    assert done.returncode == 0, done.stderr[-2000:]
