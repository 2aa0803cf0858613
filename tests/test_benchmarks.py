"""The benchmarks of our own code at toy size: they run, and what they say of it is so."""

import re

from benchmarks import growth, shortcuts
from dalle3_jax.pipeline import Pipeline
from tests.tiny import tiny_release


def test_shortcuts_are_measured_against_the_full_loop():
    pipeline = Pipeline(tiny_release())
    ways = {"full": {}, "again": {}, "cached": {"deep_cache": 2}}
    common = {"steps": 4, "sampler": "ddim", "size": (16, 16)}
    full, again, cached = shortcuts.measure_ways(pipeline, ways, ("a fox",), 2, common)
    assert [full.evaluations, again.evaluations, cached.evaluations] == [8, 8, 4]
    assert full.ratios == (1.0, 1.0)
    assert full.ssim == again.ssim == 1 > cached.ssim
    assert re.fullmatch(r"\| cached \| [\d.]+ \| [\d.]+ \([\d.]+ to [\d.]+\) \| 4 \| [\d.]+ \| [\d.]+ \|", cached.row())
    others = {"guidance_interval": (0.6, 1.0)}, {"text_gate": 0.6}, {"guidance_scale": 1.0}, {"deep_cache": 3}
    counts = [shortcuts.count_evaluations(pipeline, pipeline.request("a fox", **common, **other)) for other in others]
    assert counts == [2 * 2 + 2, 2 * 2 + 2 + 2, 4, 2 * 2]  # with the gate, two rows more to freeze what the text adds


def test_growth_runs_in_a_process_of_its_own_on_virtual_devices():
    case = growth.QUICK_BASE | {"devices": 2, "batch": 2}
    found = growth.measure_apart(case, quick=True)
    assert found["first"] > found["seconds"] > 0
    assert found["memory"] > 2**27
    assert growth.table_row("devices 2", case, found).startswith("| devices 2 | ")
