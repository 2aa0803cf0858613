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
