"""The report on a GPU, rehearsed on the CPU at toy size: every part is measured, and what goes wrong is a line."""

import json
import sys

import pytest
from flax import linen as nn

from benchmarks import gpu
from scripts import gpu_report
from scripts.gpu_report import Part, measure_parts
from tests.networks import count

FIGURES = {"seconds": 0.5, "tflops": 8.0, "images": 4.0}


def test_the_toy_report_measures_every_part_but_pytorch_s(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_report, "enable_compilation_cache", lambda: None)
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    assert gpu_report.main(["--toy", "--minutes=600", f"--out={tmp_path / 'report.json'}"]) == 0
    parts = json.loads((tmp_path / "report.json").read_text())["parts"]
    shown = capsys.readouterr().out
    assert [part["title"] for part in parts] == [part.title for part in gpu_report.report_parts(gpu.TOY)]
    assert all(part["title"] in shown for part in parts)
    [torch] = [part for part in parts if not part["figures"]]
    assert torch["note"] == "torch is not installed: pip install torch diffusers"
    assert torch["note"] in shown
    measured = [part for part in parts if part["figures"]]
    assert all(part["figures"]["seconds"] > 0 and part["figures"]["tflops"] > 0 for part in measured)
    assert [part["share"] > 0 for part in measured] == [False, *[True] * (len(measured) - 1)]


def test_what_fails_or_finds_no_time_is_a_line_and_the_rest_is_measured(monkeypatch):
    def fail() -> gpu.Figures:
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore")

    product = Part("product", lambda: {"seconds": 1.0, "tflops": 16.0})
    done = Part("work", lambda: dict(FIGURES), goal=0.4)
    results = measure_parts([product, Part("large", fail), done], 1000.0)
    assert [result.failed for result in results] == [False, True, False]
    assert results[1].row()[-1] == "failed: RESOURCE_EXHAUSTED: out of memory"
    assert results[2].row() == ("work", "0.5000", "8.0", "50%", "40%", "4.0 images", "")
    without = measure_parts([Part("product", fail), done], 1000.0)
    assert without[1].row()[3] == ""  # no share of a product that was not measured
    late = measure_parts([product, done], gpu_report.LEAST_SECONDS - 1)
    assert [result.failed for result in late] == [False, True]
    assert late[1].note.startswith("left out: ")


def test_without_a_gpu_the_remedy_is_named(capsys):
    assert gpu_report.main([]) == 2
    assert "--toy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("network", "inputs", "parameters"),
    [
        ("unet", lambda size: gpu._unet_inputs(size, 1), 859_520_964),
        ("encoder", lambda size: (gpu.jnp.zeros((1, 4), int), gpu.jnp.ones((1, 4), bool)), 4_762_310_656),
    ],
)
def test_the_networks_are_the_public_ones(network, inputs, parameters):
    module: nn.Module = getattr(gpu.FULL, network)
    assert count(module, *inputs(gpu.FULL)) == parameters
