"""The embedded dataset: what stands in a scene, and what never does."""

import json
from collections import Counter
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from dalle3_jax.data.scenes import FIRST, SPLITS, make_captions, make_record, record_labels, sample_scene
from dalle3_jax.data.scenes.scene import pixel_box

SCENES = 24_000


def together(shown):
    """All unordered pairs of concepts in a scene, and all its (concept, background)."""
    names = sorted({placed.concept for placed in shown.objects})
    pairs = {frozenset((a, b)) for a in names for b in names if a < b}
    return pairs, {(name, shown.background) for name in names}


def test_training_never_shows_a_held_out_pair_and_shows_everything_else():
    pairs, settings = set(), set()
    for index in range(SCENES):
        shown_pairs, shown_settings = together(sample_scene(FIRST, 7, index))
        pairs |= shown_pairs
        settings |= shown_settings
    names, places = [c.name for c in FIRST.concepts], [b.name for b in FIRST.backgrounds]
    every_pair = {frozenset((a, b)) for a in names for b in names if a < b}
    every_setting = {(name, place) for name in names for place in places}
    assert pairs == every_pair - FIRST.held_out.pairs
    assert settings == every_setting - FIRST.held_out.settings


def test_held_out_scenes_all_show_a_held_out_pair():
    kinds = Counter()
    for index in range(2_000):
        pairs, settings = together(shown := sample_scene(FIRST, 7, index, "held_out"))
        assert pairs & FIRST.held_out.pairs or settings & FIRST.held_out.settings
        kinds[shown.kind] += 1
    assert {kind.name: kind.weight for kind in FIRST.kinds} == pytest.approx(
        {name: number / 2_000 for name, number in kinds.items()}, abs=0.04
    )


def test_held_out_lists_are_a_fixed_fair_share():
    concepts, backgrounds = len(FIRST.concepts), len(FIRST.backgrounds)
    assert len(FIRST.held_out.pairs) / (concepts * (concepts - 1) / 2) == pytest.approx(0.1, abs=0.01)
    assert len(FIRST.held_out.settings) / (concepts * backgrounds) == pytest.approx(0.05, abs=0.005)
    missed = Counter(name for pair in FIRST.held_out.pairs for name in pair)
    assert set(missed.values()) == {5}  # every concept still meets 42 of the 47 others
    assert max(Counter(name for name, _ in FIRST.held_out.settings).values()) == 1
    lists = [sorted(sorted(pair) for pair in FIRST.held_out.pairs), sorted(map(list, FIRST.held_out.settings))]
    # Whoever changes the lists makes every earlier score meaningless.
    assert sha256(json.dumps(lists).encode()).hexdigest()[:16] == "788fc265c1b29ed7"


def without_news(row):
    """The labels as they were before worlds had styles, tints and words."""
    old = {key: value for key, value in row.items() if key not in ("style", "words")}
    order = ("concept", "box", "place")
    return old | {"objects": [{key: shown[key] for key in order} for shown in row["objects"]]}


def test_records_are_the_same_for_ever():
    rows = [
        (
            without_news(record_labels(FIRST, s := sample_scene(FIRST, 3, i, split), 128, 128)),
            make_captions(FIRST, s, 3, i),
        )
        for split in SPLITS
        for i in range(50)
    ]
    assert sha256(json.dumps(rows).encode()).hexdigest()[:16] == "91d56c27c2db7c36"


def test_a_record_depends_on_seed_index_and_split_only():
    first = make_record(FIRST, 5, 11, 64, 64)
    for index in range(40):
        make_record(FIRST, 5, index, 64, 64)
    again = make_record(FIRST, 5, 11, 64, 64)
    assert np.array_equal(first.image, again.image)
    assert (first.key, first.captions, first.labels) == (again.key, again.captions, again.labels)
    others = [
        make_record(FIRST, 6, 11, 64, 64),
        make_record(FIRST, 5, 12, 64, 64),
        make_record(FIRST, 5, 11, 64, 64, "held_out"),
    ]
    assert len({first.key, *(other.key for other in others)}) == 4
    assert not any(np.array_equal(other.image, first.image) for other in others)


def test_kinds_layouts_concepts_and_backgrounds_come_in_proportion():
    shown = [sample_scene(FIRST, 1, index) for index in range(6_000)]
    kinds = Counter(s.kind for s in shown)
    assert {k.name: kinds[k.name] / 6_000 for k in FIRST.kinds} == pytest.approx(
        {k.name: k.weight for k in FIRST.kinds}, abs=0.02
    )
    layouts = Counter((s.kind, s.layout) for s in shown)
    for kind in FIRST.kinds:
        shares = [layouts[kind.name, row.name] / kinds[kind.name] for row in kind.layouts]
        assert shares == pytest.approx([1 / len(shares)] * len(shares), abs=0.03)
    concepts = Counter(name for s in shown for name in s.concepts)
    assert min(concepts.values()) > 0.75 * sum(concepts.values()) / len(FIRST.concepts)
    assert min(Counter(s.background for s in shown).values()) > 0.85 * 600


def test_relations_and_counts_of_the_labels_agree_with_the_boxes():
    side = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}
    for index in range(250):
        row = make_record(FIRST, 2, index, 64, 64).labels
        assert row["count"] == len(row["objects"])
        concepts = {shown["concept"] for shown in row["objects"]}
        assert len(concepts) == (2 if row["kind"] == "two" else 1)
        assert bool(row["relation"]) == (row["kind"] == "two")
        if row["relation"]:
            axis, sign = side[row["relation"]]
            first, second = (shown["box"] for shown in row["objects"])
            assert sign * (second[axis] - first[axis]) >= first[axis + 2] - first[axis]  # beside, not merely before
            assert second[1 - axis] == first[1 - axis]


def test_places_of_the_labels_agree_with_the_boxes():
    horizontal, vertical = {"left": 0.25, "right": 0.75}, {"top": 0.25, "bottom": 0.75}
    for index in range(250):
        for shown in make_record(FIRST, 4, index, 128, 128).labels["objects"]:
            words, (left, top, right, bottom) = shown["place"].split(), shown["box"]
            assert (left + right) / 2 == next((horizontal[word] for word in words if word in horizontal), 0.5)
            assert (top + bottom) / 2 == next((vertical[word] for word in words if word in vertical), 0.5)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 128), (128, 224), (224, 128), (512, 512), (40, 1000)])
def test_boxes_lie_on_the_grid_and_in_the_frame(height, width):
    for layout in (layout for kind in FIRST.kinds for layout in kind.layouts):
        boxes = [pixel_box(FIRST, cell, height, width) for cell in layout.cells]
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            assert right - left == bottom - top
            assert (left + right) % 8 == 0  # the sprite's centre lies on the grid, whatever the margin
        apart = [max(b[0] - a[2], a[0] - b[2], b[1] - a[3], a[1] - b[3]) for a in boxes for b in boxes if a != b]
        assert all(gap >= 0 for gap in apart)


def test_jitter_moves_objects_and_keeps_them_in_the_frame():
    free = replace(FIRST, jitter=0.1, snap=1)
    moved = set()
    for index in range(200):
        still, loose = sample_scene(FIRST, 0, index), sample_scene(free, 0, index)
        assert [p.concept for p in still.objects] == [p.concept for p in loose.objects]
        for a, b in zip(still.objects, loose.objects, strict=True):
            assert max(abs(a.cell.x - b.cell.x), abs(a.cell.y - b.cell.y)) <= 0.1
            box = pixel_box(free, b.cell, 128, 128)
            assert min(box) >= 0
            assert max(box) <= 128
            moved.add((box[0] % 8, box[1] % 8))
    assert len(moved) > 50


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match=r"'test'.*held_out"):
        sample_scene(FIRST, 0, 0, "test")
