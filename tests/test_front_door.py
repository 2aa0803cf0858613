"""The front door: `import dalle3_jax` costs nothing, and hands out its names when they are asked for."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import dalle3_jax

HEAVY = {"PIL", "flax", "grain", "jax", "jaxlib", "jaxtyping", "numpy", "orbax", "safetensors", "tokenizers"}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_loads_no_library():
    loaded = set(run("import sys, dalle3_jax; print(*{m.partition('.')[0] for m in sys.modules})").split())
    assert "dalle3_jax" in loaded
    assert not HEAVY & loaded


def test_importing_the_package_takes_no_time():
    code = "import time; t = time.perf_counter(); import dalle3_jax; print(time.perf_counter() - t)"
    assert min(float(run(code)) for _ in range(3)) < 0.2


def test_train_s_help_loads_no_library():
    code = "import sys; from dalle3_jax.commands.train import main; main(['--help'])\nprint(*sys.modules)"
    shown, loaded = run(code).rsplit("\n", 2)[:2]
    assert "Exit codes:" in shown
    assert not HEAVY & set(loaded.split())


def test_asking_for_every_name_starts_no_backend():
    code = "import dalle3_jax as d\nfor name in d.__all__: getattr(d, name)\n"
    code += "from jax._src import xla_bridge\nprint(len(xla_bridge._backends))"
    assert run(code).split() == ["0"]


def test_every_name_is_what_its_own_module_holds():
    from dalle3_jax import convert
    from dalle3_jax.pipeline import Pipeline
    from dalle3_jax.pipeline.request import Request

    assert (dalle3_jax.Pipeline, dalle3_jax.Request, dalle3_jax.convert) == (Pipeline, Request, convert)
    assert dalle3_jax.__version__ == version("dalle3_jax")
    assert set(dalle3_jax.__all__) <= set(dir(dalle3_jax))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'pipelines'"):
        _ = dalle3_jax.pipelines
