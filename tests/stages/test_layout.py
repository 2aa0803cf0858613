"""The stage `layout`: its targets are what the labels say, and the text side that it leaves knows names."""

import numpy as np
import pytest

from dalle3_jax.checkpoints.releases import load_release
from dalle3_jax.commands.train import main
from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes import WHOLE
from dalle3_jax.models.layout_head import LayoutHead
from dalle3_jax.stages.layout_labels import covered_cells, layout_targets
from dalle3_jax.stages.reader import with_names, world_names
from tests.stages.test_train import ROOT, metrics

NAMES = world_names(WHOLE)
HEAD = LayoutHead((4, 4), NAMES["concepts"], NAMES["tints"], NAMES["backgrounds"])


def record(objects, words=()):
    labels = {"objects": objects, "words": list(words), "background": "beach"}
    return Record(key="0", image=np.zeros((8, 8, 3), np.uint8), height=8, width=8, captions={}, labels=labels)


def test_cells_show_what_covers_their_centres_and_what_stands_in_front():
    fox = {"concept": "fox", "tint": "", "box": [0.0, 0.0, 0.5, 0.5]}
    owl = {"concept": "owl", "tint": "red", "box": [0.25, 0.25, 0.75, 0.75]}
    word = {"box": [0.0, 0.8, 1.0, 1.0], "text": "aZ!", "edges": [0.2, 0.5, 0.7, 0.9]}
    row = layout_targets(HEAD)(record([fox, owl], words=[word]))
    a, b, word = 1 + NAMES["concepts"].index("fox"), 1 + NAMES["concepts"].index("owl"), 1 + len(NAMES["concepts"])
    expected = [[a, a, 0, 0], [a, b, b, 0], [0, b, b, 0], [word] * 4]
    np.testing.assert_array_equal(row["cells"].reshape(4, 4), expected)
    red = NAMES["tints"].index("red")
    np.testing.assert_array_equal(row["tints"].reshape(4, 4) == red, np.array(expected) == b)
    assert row["background"] == NAMES["backgrounds"].index("beach")
    # centres of two cells lie a quarter and three quarters into a box: in the second and in the last of four patches
    patches = row["patches"].reshape(4, 4)
    np.testing.assert_array_equal(patches[[0, 0, 1, 1, 2], [0, 1, 0, 1, 2]], [5, 7, 13, 5, 15])
    # middles of halves at 1/16, 3/16, ...: none, "a", "Z", none for what is no letter
    expected = [0, 0, 1, 1, 52, 52, 0, 0]
    np.testing.assert_array_equal(row["letters"].reshape(4, 8), [[0] * 8] * 3 + [expected])


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [([0, 0, 1, 1], (0, 4), (0, 4)), ([0.6, 0.9, 0.61, 0.95], (3, 4), (2, 3)), ([0.9, 1.0, 1.0, 1.0], (3, 4), (3, 4))],
)
def test_every_box_covers_a_cell(box, rows, columns):
    assert covered_cells(box, (4, 4)) == (slice(*rows), slice(*columns))


def test_a_head_of_another_world_is_refused():
    with pytest.raises(ValueError, match=r"no names for concepts \['abacus', .* of 'whole': train a new one"):
        with_names("layout_head", LayoutHead((2, 2), ("fox",), NAMES["tints"], NAMES["backgrounds"]), LayoutHead, WHOLE)


def test_the_text_side_learns_in_a_run_and_is_released_with_its_head(tmp_path):
    steps = [f"--config.train.{each}" for each in ("steps=150", "log_every=10", "learning_rate=0.01")]
    steps += ["--config.sample.every=150", "--config.data.records=8"]
    assert main(["--config", f"{ROOT / 'configs/tiny.py'}:layout", "--workdir", str(tmp_path), *steps]) == 0
    figures = [line for line in metrics(tmp_path / "layout") if "loss" in line]
    assert figures[-1]["named"] > 0.7 > 0.5 > figures[0]["named"]
    assert {path.name for path in (tmp_path / "layout" / "samples").iterdir()} == {"00000000.png", "00000150.png"}
    release = load_release(tmp_path / "layout" / "release")
    assert set(release.modules) == {"text_encoder", "xfnet", "layout_head"}
    assert release.modules["layout_head"].concepts == NAMES["concepts"][:48]
