"""What a revised prompt must keep: nothing may be lost, swapped, added or said of something else."""

import pytest

from dalle3_jax.prompting.faithfulness import content_words, format_errors, is_usable, missing_content, stem
from dalle3_jax.prompting.lexicon import Lexicon

LEXICON = Lexicon(
    things={"fox": "foxes", "owl": "owls", "car": "cars", "cherry": "cherries"},
    backgrounds={"beach": ("on a beach",), "snow": ("in the snow",)},
)
KEPT = (
    ("a fox", "The picture shows a fox on a beach."),
    ("two red cars", "There are two red cars, side by side."),
    ("2 foxes", "Two foxes stand together."),
    ("a fox left of an owl", "A fox and an owl. The owl is to the right of the fox."),
    ("a fox left of an owl", "A fox on the left and an owl on the right."),
    ('a fox and "Hello World"', 'A fox beside a sign that says "Hello World".'),
    ("a fox in the snow", "A fox stands in the snow."),
    ("cherries", "Several cherries."),
    ("a fox with no owl", "A fox alone, with no owl near it."),
    ("draw me a picture of a fox please", "A fox."),
)
LOST = (
    ("a fox and an owl", "A fox.", "owl"),
    ("two foxes", "Three foxes.", "number of the fox: 2, not 3"),
    ("two foxes", "A fox.", "number"),
    ("a red car and a fox", "A car and a red fox.", "red"),
    ("a fox left of an owl", "A fox to the right of an owl.", "fox left of owl"),
    ("a fox left of an owl", "A fox and an owl.", "fox left of owl"),
    ('the word "Hello"', 'The word "hello".', 'the quoted "Hello"'),
    ("a fox in the snow", "A fox on a beach.", "background"),
    ("a fox", "A fox and an owl.", "it adds a owl"),
    ("a fox with no owl", "A fox with an owl.", "no owl"),
    ("a grumpy fox", "A fox.", "'grumpy'"),
    ("a fox on the left", "A fox on the right.", "the fox left"),
)
BARE = (
    ("three green dragons", "Three green dragons fly over hills.", True),
    ("three green dragons", "Green dragons, three red hills.", False),
    ("three green dragons", "Four green dragons.", False),
    ("a dragon eating noodles", "A dragon is eating noodles from a bowl.", True),
    ("a dragon eating noodles", "A dragon from a bowl.", False),
    ("a street without cars", "A street without any cars.", True),
    ("a street without cars", "A street full of cars.", False),
    ("a street without cars", "An empty street.", False),
)


@pytest.mark.parametrize(("prompt", "revised"), KEPT)
def test_what_is_said_in_other_words_is_kept(prompt, revised):
    assert missing_content(prompt, revised, LEXICON) == ()


@pytest.mark.parametrize(("prompt", "revised", "said"), LOST)
def test_what_is_lost_is_named(prompt, revised, said):
    assert any(said in one for one in missing_content(prompt, revised, LEXICON))


@pytest.mark.parametrize(("prompt", "revised", "kept"), BARE)
def test_without_a_lexicon_words_numbers_and_colours_are_kept(prompt, revised, kept):
    assert (missing_content(prompt, revised) == ()) is kept


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A fox.", "2 words"),
        (" ".join(["fox"] * 81), "81 words"),
        ("Here is your caption: " + "a fox " * 10, "no plain description"),
        ("**Fox** " * 10 + "a " * 10, "no plain description"),
        ("- a fox\n- an owl\n" + "and more of them " * 5, "no plain description"),
        ("a fox " * 10 + "\x07", "characters"),
        ("狐" * 20 + " a" * 15, "script"),
    ],
)
def test_answers_that_are_no_description_are_refused(text, said):
    assert any(said in one for one in format_errors(text, "a fox"))


def test_a_description_is_well_formed_in_the_prompts_own_script():
    assert format_errors("The picture shows a fox on a beach, drawn in the middle of the frame and alone.") == ()
    assert format_errors("\u72d0 " * 20, "\u72d0") == ()


def test_singular_and_plural_are_one():
    for one, many in (("cherry", "cherries"), ("fox", "foxes"), ("leaf", "leaves"), ("bus", "bus"), ("glass", "glass")):
        assert stem(many) == stem(one)
    assert content_words("Please draw me two pictures of the old foxes on a hill") == [
        "pictures",
        "old",
        "foxes",
        "hill",
    ]


def test_surrogates_and_controls_are_no_text():
    assert is_usable("a fox\n日本語 “quotes”")
    assert not is_usable("a \udcff fox")
    assert not is_usable("a \x00 fox")
