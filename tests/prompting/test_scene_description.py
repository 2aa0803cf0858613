"""Descriptions of scenes that were read: what they say is what was seen."""

import pytest

from dalle3_jax.data.scenes import FIRST
from dalle3_jax.prompting.claims import parse_claims
from dalle3_jax.prompting.scene_description import PlacedThing, describe_scene
from dalle3_jax.prompting.scene_lexicon import world_lexicon

LEXICON = world_lexicon(FIRST)


def said_of(*things, background="snow"):
    return parse_claims(describe_scene([PlacedThing(*thing) for thing in things], background, LEXICON), LEXICON)


def test_two_things_stand_as_they_were_seen():
    beside = said_of(("owl", "", 0.8, 0.5), ("fox", "blue", 0.2, 0.6))
    assert dict(beside.things) == {"fox": 1, "owl": 1}
    assert beside.tints["fox"] == ("blue",)
    assert beside.relations == (("fox", "left of", "owl"),)
    assert beside.backgrounds == ("snow",)
    above = said_of(("owl", "", 0.5, 0.8), ("fox", "", 0.4, 0.2))
    assert above.relations == (("fox", "above", "owl"),)


def test_equal_things_are_counted():
    several = said_of(("owl", "", 0.2, 0.5), ("owl", "", 0.5, 0.5), ("owl", "", 0.8, 0.5), background="beach")
    assert (dict(several.things), several.backgrounds) == ({"owl": 3}, ("beach",))


@pytest.mark.parametrize(("x", "y", "place"), [(0.1, 0.5, "left"), (0.9, 0.9, "bottom right"), (0.5, 0.1, "top")])
def test_a_single_thing_is_at_its_place(x, y, place):
    assert said_of(("fox", "", x, y)).places == {"fox": place}


def test_three_things_are_named_from_left_to_right():
    row = said_of(("owl", "", 0.9, 0.5), ("fox", "", 0.1, 0.5), ("frog", "", 0.5, 0.5))
    assert row.relations == (("fox", "left of", "frog"), ("frog", "left of", "owl"))


def test_nothing_that_is_known_is_no_description():
    assert describe_scene([PlacedThing("unicorn", "", 0.5, 0.5)], "snow", LEXICON) == ""
