"""Chips and topologies, rooflines, and what a plan warns of."""

import json
import re

import pytest

from dalle3_jax.planning.chips import CHIPS, parse_topology
from dalle3_jax.planning.costs import Collective
from dalle3_jax.planning.plan_report import Plan, counted_memory, plan_findings, plan_markdown, roofline_seconds

MIB = 2**20


@pytest.mark.parametrize(
    ("name", "grid", "chips"),
    [
        ("v5e:16x16", (16, 16), 256),
        ("v5e-256", (16, 16), 256),
        ("v5litepod-256", (16, 16), 256),
        ("v5e-16", (4, 4), 16),
        ("v5p-128", (4, 4, 4), 64),  # a product's name counts TensorCores, two a chip
        ("v5p:4x4x8", (4, 4, 8), 128),
        ("v4-8", (2, 2, 1), 4),
        ("v6e-64", (8, 8), 64),
    ],
)
def test_grids_and_products_are_understood(name, grid, chips):
    found = parse_topology(name)
    assert (found.grid, found.chips) == (grid, chips)
    assert found.name == f"{found.version}:{'x'.join(map(str, grid))}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v9:2x2", "chips are v4"),
        ("v5e:4x4x4", "v5e:16x16"),
        ("v5p-100", "v5p-128"),
        ("v5e:0x4", "grid"),
        ("tpu", "grid"),
    ],
)
def test_what_there_is_not_is_named_with_what_there_is(name, message):
    with pytest.raises(ValueError, match=message):
        parse_topology(name)


def test_seconds_are_work_over_peaks_and_groups_use_the_links_along_the_sides_they_span():
    where, chip = parse_topology("v5e:16x16"), CHIPS["v5e"]
    whole = Collective("all-gather", 256, 256 * MIB, 1)
    row = Collective("all-gather", 16, 256 * MIB, 2)
    reduced = Collective("all-reduce", 256, 256 * MIB, 1)
    assert roofline_seconds(chip.flops, 2 * chip.bandwidth, [], where) == {"compute": 1, "memory": 2, "interconnect": 0}
    ways = [roofline_seconds(0.0, 0.0, [one], where)["interconnect"] for one in (whole, row, reduced)]
    assert ways[0] == pytest.approx(255 * MIB / chip.interconnect)
    assert ways[1] == pytest.approx(2 * 240 * MIB / (chip.interconnect / 2))
    assert ways[2] == pytest.approx(2 * ways[0])
    assert Collective("collective-permute", 256, MIB, 3).received_bytes == 3 * MIB


def test_findings_name_what_is_wrong_and_nothing_else():
    good = [
        Collective("all-gather", 4, 9 * MIB, 1),
        Collective("reduce-scatter", 4, 9 * MIB, 1),
        Collective("all-reduce", 4, 9, 1),
    ]
    assert plan_findings({"parameters": 80}, 100, good, [100], {}) == []
    bad = [Collective("all-reduce", 4, 2 * MIB, 3), Collective("all-to-all", 4, 2 * MIB, 1)]
    found = plan_findings({"parameters": 95}, 100, bad, [3 * MIB], {"moments": 5 * MIB})
    assert [
        any(word in line for line in found)
        for word in ("5.0% of HBM", "1 all-to-alls", "6.00 MiB: gradients", "3.00 MiB", "moments, 5.00 MiB")
    ] == [True] * 5
    assert "does not fit" in plan_findings({"parameters": 101}, 100, [], [], {})[0]


def plan(**changes):
    fields = {
        "how": "full",
        "what": "training step",
        "config": "configs/x.py:base",
        "topology": "v5e:4x4",
        "mesh": {"data": 1, "fsdp": 4, "fsdp_inner": 4, "tensor": 1},
        "bucket": (512, 896),
        "batch": 32,
        "inputs": "images",
        "parameters": {"unet": 10**9},
        "memory": {"parameters": 2**30, "temporaries": 2**31},
        "capacity": 2**34,
        "flops": 2e12,
        "model_flops": 1.5e12,
        "bytes": 1e9,
        "collectives": {"all-gather": {"count": 3, "bytes": 3 * MIB, "moved": 2.0 * MIB}},
        "seconds": {"compute": 0.010, "memory": 0.002, "interconnect": 0.005},
        "findings": ["one thing"],
        "left_out": [],
    }
    return Plan(**fields | changes)


def test_a_step_takes_the_longest_of_its_times_or_that_and_the_interconnect_s():
    found = plan()
    assert (found.overlapped_seconds, found.serial_seconds) == (0.010, 0.015)
    assert found.utilisation(found.overlapped_seconds, 1e15) == pytest.approx(0.15)
    assert found.used_bytes == 3 * 2**30


def test_temporaries_of_a_program_for_the_cpu_are_shown_and_say_nothing_of_a_chip():
    quick, estimated = plan(how="quick"), plan(how="estimate")
    assert quick.used_bytes == 2**30
    text = plan_markdown(quick, parse_topology("v5e:4x4"))
    assert re.search(r"temporaries on a CPU, not counted +\| 2.00 GiB", text)
    assert re.search(r"in all, at least +\| 1.00 GiB", text)
    assert estimated.used_bytes == plan().used_bytes == 3 * 2**30
    assert counted_memory({"parameters": 1, "temporaries": 5}, "full") == {"parameters": 1, "temporaries": 5}


def test_a_plan_reads_as_a_document_and_as_json():
    text = plan_markdown(plan(left_out=["HBM traffic"], compile_seconds=61.0), parse_topology("v5e:4x4"))
    for said in (
        "896x512 pixels",
        "fsdp 4 x fsdp_inner 4",
        "(2 a chip)",
        "81.2%",
        "- one thing",
        "Left out: HBM traffic.",
        "in 61 s",
    ):
        assert said in text, said
    assert len({line.count("|") for line in text.splitlines() if line.startswith("| memory")}) == 1
    assert json.loads(plan().to_json())["used"] == 3 * 2**30
