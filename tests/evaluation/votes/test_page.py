"""The page asks every question once, sides and order by the seed alone, and gives no system away."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dalle3_jax.evaluation.votes.page import write_vote_page

SYSTEMS = ("alpha", "béta", "gamma")
PROMPTS = [(f"p{i}", f"text {i}") for i in range(20)]


def picture(system: int, prompt: int) -> Image.Image:
    """A picture that says whose it is, to this test, by its colour and a note."""
    image = Image.new("RGB", (4, 4), (system, prompt, 0))
    image.info |= {"parameters": SYSTEMS[system], "icc_profile": b"of " + SYSTEMS[system].encode()}
    return image


def systems(prompts=PROMPTS) -> dict[str, list[Image.Image]]:
    return {name: [picture(i, j) for j in range(len(prompts))] for i, name in enumerate(SYSTEMS)}


def read(page: Path) -> dict:
    found = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert len(found) == 1
    return json.loads(found[0])


def names(data: dict) -> list[str]:
    return json.loads(base64.b64decode(data["systems"]))


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    return write_vote_page(tmp_path_factory.mktemp("page") / "new", systems(), PROMPTS)


def test_every_two_systems_meet_once_on_every_prompt(page):
    data = read(page)
    asked = {(pair["prompt"], frozenset((pair["left"][1], pair["right"][1]))) for pair in data["pairs"]}
    assert len(data["pairs"]) == len(asked) == 3 * len(PROMPTS)
    assert {pair["prompt"]: pair["text"] for pair in data["pairs"]} == dict(PROMPTS)
    assert sorted(names(data)) == sorted(SYSTEMS)


def test_pictures_belong_to_the_system_and_prompt_that_votes_will_name(page):
    data = read(page)
    for pair in data["pairs"]:
        for file, system in (pair["left"], pair["right"]):
            with Image.open(page.parent / file) as image:
                colour = image.getpixel((0, 0))
            assert colour == (SYSTEMS.index(names(data)[system]), int(pair["prompt"][1:]), 0)


def test_sides_and_order_follow_neither_systems_nor_prompts(page):
    pairs = read(page)["pairs"]
    assert 15 < sum(pair["left"][1] < pair["right"][1] for pair in pairs) < 45
    assert [pair["prompt"] for pair in pairs] != sorted(pair["prompt"] for pair in pairs)


def test_nothing_gives_a_system_away(page):
    content = page.read_bytes() + b"".join(file.read_bytes() for file in page.parent.glob("*.png"))
    assert not any(name.encode() in content for name in SYSTEMS)
    for file in page.parent.glob("*.png"):
        with Image.open(file) as image:
            assert set(image.info) == {"XML:com.adobe.xmp", "xmp"}
    data = read(page)
    owner = {file: system for pair in data["pairs"] for file, system in (pair["left"], pair["right"])}
    order = [owner[file] for file in sorted(owner)]
    assert 20 < np.count_nonzero(np.diff(order)) < 59  # neither one system after the other nor turn by turn
    assert {file.name for file in page.parent.iterdir()} == {*owner, "index.html"}


def test_page_depends_on_the_seed_alone(page, tmp_path):
    again = write_vote_page(tmp_path / "again", systems(), PROMPTS)
    other = write_vote_page(tmp_path / "other", systems(), PROMPTS, seed=1)
    assert again.read_bytes() == page.read_bytes()
    assert read(other)["pairs"] != read(page)["pairs"]


def test_votes_kept_for_other_pictures_are_not_taken_up(page, tmp_path):
    changed = systems() | {"gamma": systems()["alpha"]}
    assert read(write_vote_page(tmp_path / "new", changed, PROMPTS))["id"] != read(page)["id"]


def test_prompts_cannot_leave_their_script(tmp_path):
    prompts = [("</script>", "<b>&amp;</script><script>alert(1)</script><!-- \u2028 @DATA@")]
    data = read(write_vote_page(tmp_path / "new", systems(prompts), prompts, question="<i>?"))
    assert (data["pairs"][0]["prompt"], data["pairs"][0]["text"]) == prompts[0]
    assert data["question"] == "<i>?"


def test_page_asks_nothing_of_any_network(page):
    markup = page.read_text("utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|fetch\(|url\(", re.sub(r"// .*", "", markup))


@pytest.mark.parametrize(
    ("made", "prompts", "said"),
    [
        ({"alpha": [picture(0, 0)]}, PROMPTS[:1], "systems alpha: two at least"),
        ({"alpha": [], "beta": []}, [], "no prompts"),
        (systems(), PROMPTS[:3], "20 pictures of alpha for 3 prompts.*20 pictures of gamma"),
        (systems(), [("p", str(i)) for i in range(20)], "one id stands for several texts"),
        ({"": [picture(0, 0)], "b": [picture(1, 0)]}, PROMPTS[:1], "an empty name"),
    ],
)
def test_what_cannot_be_voted_on_is_refused(tmp_path, made, prompts, said):
    with pytest.raises(ValueError, match=said):
        write_vote_page(tmp_path / "new", made, prompts)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_is_left_alone(page):
    with pytest.raises(ValueError, match="not an empty folder"):
        write_vote_page(page.parent, systems(), PROMPTS)
