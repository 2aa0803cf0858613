"""The whole world: what stands in its scenes and where, what training never shows, and that it stays as it is."""

import json
import runpy
from collections import Counter
from hashlib import sha256
from itertools import combinations, pairwise
from pathlib import Path
from pkgutil import resolve_name

import pytest

from dalle3_jax.data.scenes import FIRST, SCATTERED, SPLITS, WHOLE, make_captions, record_labels, sample_scene
from dalle3_jax.data.scenes.layouts import place_at
from dalle3_jax.data.scenes.lettering import BAND

SCRIPTS = Path(__file__).parents[3] / "scripts"
SCENES = Path(__file__).parents[3] / "dalle3_jax/data/scenes"
SIZES = [(128, 128), (128, 224), (224, 128)]
TRAINED, WITHHELD = 2_500, 800


@pytest.fixture(scope="module")
def trained():
    return [sample_scene(WHOLE, 7, index) for index in range(TRAINED)]


@pytest.fixture(scope="module")
def withheld():
    return [sample_scene(WHOLE, 7, index, "held_out") for index in range(WITHHELD)]


@pytest.fixture(scope="module", params=SIZES, ids=str)
def rows(request, trained):
    """Labels at a size, beside boxes in pixels: of the objects, and of the words."""
    height, width = request.param
    found = []
    for shown in trained[:500]:
        row = record_labels(WHOLE, shown, height, width)
        boxes, signs = (
            [[round(f * side, 6) for f, side in zip(one["box"], (width, height) * 2, strict=True)] for one in row[key]]
            for key in ("objects", "words")
        )
        found.append((row, boxes, signs, height, width))
    return found


def withheld_in(shown):
    """What a scene shows of each list of what is held out."""
    numbers, held = Counter(placed.concept for placed in shown.objects), WHOLE.held_out
    return {
        "pairs": {frozenset(pair) for pair in combinations(numbers, 2)} & held.pairs,
        "styles": {(name, shown.style) for name in numbers} & held.styles,
        "counts": {(number, name) for name, number in numbers.items()} & held.counts,
        "words": {word.text.lower() for word in shown.words} & held.words,
    }


def third(value, low, high):
    """The name of the third of a frame in which a fraction lies; the middle one has none."""
    return low if value < 0.4 else high if value > 0.6 else ""


def middle(box):
    left, top, right, bottom = box
    return (left + right) / 2, (top + bottom) / 2


def test_training_never_shows_what_is_held_out(trained):
    assert not [shown for shown in trained if any(withheld_in(shown).values())]


def test_held_out_scenes_show_something_of_every_list(withheld):
    found = [{name for name, rows in withheld_in(shown).items() if rows} for shown in withheld]
    assert all(found)
    assert {name for names in found if len(names) == 1 for name in names} == {"pairs", "styles", "counts", "words"}


@pytest.mark.parametrize(("split", "count"), [("trained", TRAINED), ("withheld", WITHHELD)])
def test_kinds_come_in_proportion(split, count, request):
    kinds = Counter(shown.kind for shown in request.getfixturevalue(split))
    assert {kind.name: kinds[kind.name] / count for kind in WHOLE.kinds} == pytest.approx(
        {kind.name: kind.weight for kind in WHOLE.kinds}, abs=0.04
    )
    assert sum(kind.weight for kind in WHOLE.kinds) == pytest.approx(1.0)


def test_styles_tints_backgrounds_and_words_come_in_proportion(trained):
    styles = Counter(shown.style for shown in trained)
    assert {style: styles[style] / TRAINED for style in WHOLE.styles} == pytest.approx(
        dict.fromkeys(WHOLE.styles, 1 / 3), abs=0.04
    )
    assert min(Counter(shown.background for shown in trained).values()) > 0.7 * TRAINED / 15
    tints = [dict((p.concept, p.tint) for p in s.objects if WHOLE.concept(p.concept).tints) for s in trained]
    drawn = [bool(tint) for each in tints for tint in each.values()]
    assert sum(drawn) / len(drawn) == pytest.approx(WHOLE.tinted, abs=0.04)
    flat = [len(s.words) for s in trained if "row of" in s.layout or s.layout.startswith("between, across")]
    weights = [chance * 0.9**number for number, chance in enumerate(WHOLE.lettering.chances)]  # a tenth is held out
    shares = [flat.count(number) / len(flat) for number in range(3)]
    assert shares == pytest.approx([weight / sum(weights) for weight in weights], abs=0.06)


def test_a_concept_has_one_look_in_a_scene_and_one_that_exists(trained):
    for shown in trained:
        assert len({(placed.concept, placed.tint) for placed in shown.objects}) == len(shown.concepts)
        for placed in shown.objects:
            concept = WHOLE.concept(placed.concept)
            assert shown.style in concept.styles
            assert placed.tint in ("", *concept.tints)
        assert (
            len({word.text.lower() for word in shown.words}) == len({w.slot for w in shown.words}) == len(shown.words)
        )


def test_objects_lie_in_the_frame_and_leave_the_bands_of_words_alone(rows):
    near = 1.5  # pixels: sides and places are rounded
    for row, boxes, signs, height, width in rows:
        slots = {word["slot"] for word in row["words"]}
        over = BAND * height - near if "top" in slots else 0
        under = (1 - BAND) * height + near if "bottom" in slots else height
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= width
            assert over <= top < bottom <= under
            assert right - left == pytest.approx(bottom - top)
            assert not [sign for sign in signs if top < sign[3] and sign[1] < bottom]


def test_relations_agree_with_boxes(rows):
    side = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}
    seen = Counter()
    for row, boxes, *_ in rows:
        assert bool(row["relation"]) == (row["kind"] == "two")
        if row["kind"] == "two":
            axis, sign = side[row["relation"]]
            first, second = boxes if sign > 0 else boxes[::-1]
            assert first[axis + 2] <= second[axis] + 1
            assert abs(middle(first)[1 - axis] - middle(second)[1 - axis]) < (first[2] - first[0]) / 2
            seen[row["relation"]] += 1
    assert len(seen) == 4


def test_rows_are_in_order_and_what_is_between_is(rows):
    for row, boxes, *_ in rows:
        down = row["layout"].startswith(("column", "between, down"))
        along = [middle(box)[down] for box in boxes]
        if "row of" in row["layout"] or "column of" in row["layout"]:
            assert all(b - a > 0.5 * (boxes[0][2] - boxes[0][0]) for a, b in pairwise(along)), row
            assert row["count"] == {"two": 2, "three": 3, "four": 4, "five": 5}[row["layout"].split()[-1]]
        elif row["kind"] == "between":
            first, second, third = along
            assert min(second, third) < first < max(second, third)
        elif row["kind"] == "count":
            assert row["layout"] == f"cluster of {('', '', 'two', 'three', 'four', 'five')[row['count']]}"
        assert len({shown["concept"] for shown in row["objects"]}) == (
            1 if row["kind"] in ("one", "single", "count") else row["count"]
        )


def test_named_places_are_true_beside_words_too(rows):
    spoken = Counter()
    for row, boxes, _, height, width in rows:
        for shown, (x, y) in zip(row["objects"], map(middle, boxes), strict=True):
            across, down = third(x / width, "left", "right"), third(y / height, "top", "bottom")
            if all(abs(f - edge) > 0.02 for f in (x / width, y / height) for edge in (0.4, 0.6)):  # pixels are whole
                assert set(shown["place"].split()) == ({across, down} - {""} or {"centre"}), row
                spoken[shown["place"], bool(row["words"])] += 1
                spoken[row["layout"].split()[0], bool(row["words"])] += 1
    for place in ("centre", "left", "right", "top", "bottom", "top left", "cluster", "column"):
        assert spoken[place, True], place


def test_what_captions_say_of_places_is_true_beside_words_too(trained):
    for shown in trained:
        for placed in shown.objects:
            said, y = placed.cell.place, placed.cell.y
            if shown.kind == "one":
                assert place_at(placed.cell.x, y) == said
            elif shown.kind == "two" and said in ("top", "bottom"):
                assert third(y, "top", "bottom") == said


@pytest.mark.parametrize(
    ("world", "hashes"),
    [(WHOLE, ("666ec92e862c6687", "62947c6ebf6e90fa")), (SCATTERED, ("f5500d6791582a7c", "e5c8ade4a293589b"))],
    ids=["whole", "scattered"],
)
def test_worlds_are_the_same_for_ever(world, hashes):
    # A reader and models were trained on these scenes, and scores are of them.
    splits = SPLITS if world is WHOLE else SPLITS[:1]
    shown = [(i, sample_scene(world, 3, i, split)) for split in splits for i in range(100)]
    older = ("descriptive", "short", "alt")
    told = [make_captions(world, each, 3, i) for i, each in shown]
    labels = [record_labels(world, each, 128, 128) for _, each in shown]
    for word in (word for each in labels for word in each["words"]):
        del word["edges"]  # they came later
    rows = (
        labels,
        [{version: texts[version] for version in older} for texts in told],
    )
    assert tuple(sha256(json.dumps(row).encode()).hexdigest()[:16] for row in rows) == hashes


def test_later_rows_of_the_tables_change_no_world(monkeypatch):
    folder = "dalle3_jax.data.scenes."
    for table in ("concepts.CONCEPTS", "concepts.STYLES", "backgrounds.BACKGROUNDS"):
        monkeypatch.setattr(folder + table, (*(rows := resolve_name(folder + table)), rows[-1]))
    later = runpy.run_path(str(SCENES / "worlds.py"))
    for world in (FIRST, WHOLE, SCATTERED):
        assert later["WORLDS"][world.name] == world


@pytest.mark.parametrize("name", ["first", "whole"])
def test_held_out_lists_are_those_of_the_script(name):
    committed = json.loads((SCENES / f"held_out_{name}.json").read_text())
    assert json.loads(json.dumps(runpy.run_path(str(SCRIPTS / "make_held_out.py"))[name]())) == committed


def test_held_out_lists_are_fair_shares():
    held, names = WHOLE.held_out, WHOLE.concept_names
    missed = Counter(name for pair in held.pairs for name in pair)
    assert len(held.pairs) / (len(names) * (len(names) - 1) / 2) == pytest.approx(0.05, abs=0.003)
    assert 15 <= min(missed[name] for name in names) <= max(missed.values()) <= 22
    assert len(held.styles) == len({name for name, _ in held.styles}) == len(names) // 3
    assert len(held.counts) == len({name for _, name in held.counts}) == len(names) // 2
    assert {number for number, _ in held.counts} == {2, 3, 4, 5}
    assert len(held.words) == len(WHOLE.lettering.words) // 10
    assert held.words < set(WHOLE.lettering.words)
