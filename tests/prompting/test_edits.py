"""Edits in words: what is asked for changes, everything else keeps its words; what is not there cannot be edited."""

import pytest

from dalle3_jax.data.scenes import FIRST
from dalle3_jax.prompting.claims import parse_claims
from dalle3_jax.prompting.edits import edit_description
from dalle3_jax.prompting.scene_lexicon import world_lexicon
from dalle3_jax.prompting.upsampler import Turn, template_backend, upsample

LEXICON = world_lexicon(FIRST)
PAIR = "A picture of an owl and a fox on the snow. The owl is on the right and the fox is on the left."
SEVERAL = "The picture shows two blue foxes and an owl in the desert. The foxes are to the left of the owl."
ONE = "A picture of a panda on a sandy beach. It is placed in the centre of the frame, with nothing else in view."


@pytest.mark.parametrize(
    ("text", "edit", "old", "new"),
    [
        (PAIR, "make it night", "on the snow", "under a night sky"),
        (PAIR, "put them on a beach instead", "on the snow", "on a sandy beach"),
        (ONE, "in the snow instead", "on a sandy beach", "on the snow"),
        (PAIR, "make the fox blue", "a fox", "a blue fox"),
        (PAIR, "paint the owl orange", "an owl", "an orange owl"),
        (ONE, "make it yellow", "a panda", "a yellow panda"),
        (SEVERAL, "make the foxes green", "two blue foxes", "two green foxes"),
    ],
)
def test_all_but_what_is_asked_for_keeps_its_words(text, edit, old, new):
    assert edit_description(text, edit, LEXICON) == text.replace(old, new)


@pytest.mark.parametrize(
    ("text", "edit", "expected"),
    [
        (PAIR, "replace the fox with a panda", PAIR.replace("fox", "panda")),
        (PAIR, "a panda instead of the fox", PAIR.replace("fox", "panda")),
        (PAIR, "Turn the owl into a frog", PAIR.replace("an owl", "a frog").replace("owl", "frog")),
        (SEVERAL, "change the owl to an elephant", SEVERAL.replace("owl", "elephant")),
        (
            PAIR,
            "swap the fox and the owl",
            "A picture of a fox and an owl on the snow. The fox is on the right and ",
        ),
        (PAIR, "move the fox to the right", "A picture of a fox and an owl on the snow. The fox is on the right and "),
    ],
)
def test_things_change_their_names_and_places(text, edit, expected):
    assert edit_description(text, edit, LEXICON).startswith(expected)


@pytest.mark.parametrize(
    ("text", "edit", "things", "said"),
    [
        (PAIR, "three owls instead", {"owl": 3, "fox": 1}, "three owls"),
        (PAIR, "make it two foxes", {"owl": 1, "fox": 2}, "two foxes"),
        (PAIR, "remove the fox", {"owl": 1}, "an owl"),
        (PAIR, "no fox", {"owl": 1}, "an owl"),
        (PAIR, "add a frog", {"owl": 1, "fox": 1, "frog": 1}, "a frog"),
        (PAIR, "add another owl", {"owl": 2, "fox": 1}, "two owls"),
        (ONE, "three owls instead", {"owl": 3}, "three owls"),
        (SEVERAL, "replace the foxes with pandas", {"owl": 1, "panda": 2}, "two pandas"),
        (SEVERAL, "replace the owl with a red umbrella", {"fox": 2, "umbrella": 1}, "a red umbrella"),
    ],
)
def test_numbers_are_what_an_edit_says_and_the_background_stays(text, edit, things, said):
    made = edit_description(text, edit, LEXICON)
    assert said in made
    claims = parse_claims(made, LEXICON)
    assert dict(claims.things) == things
    assert claims.backgrounds == parse_claims(text, LEXICON).backgrounds


@pytest.mark.parametrize(
    "edit",
    [
        *("make the panda blue", "remove the panda", "replace the panda with a frog", "swap the panda and the owl"),
        *("make it happier", "in the snow", "put the panda on the left", ""),
    ],
)
def test_what_is_not_there_or_not_understood_is_no_edit(edit):
    assert edit_description(PAIR, edit, LEXICON) == ""


def test_what_is_replaced_need_not_be_said_again():
    def edited(edit):
        return upsample(edit, template_backend(LEXICON), lexicon=LEXICON, previous=[Turn(PAIR, PAIR)])

    for edit in ("replace the fox with a panda", "a panda instead of the fox", "swap the fox and the owl"):
        assert edited(edit).notice == "", edit
    assert "it lost the word 'bicycle'" in edited("replace the fox with a frog on a bicycle").notice
