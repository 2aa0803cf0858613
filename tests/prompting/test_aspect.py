"""What a prompt says of its size, and what it does not; who chooses where it says nothing."""

import math

import pytest

from dalle3_jax.evaluation.suites import load_suite
from dalle3_jax.prompting.aspect import choose_size, nearest_size, parse_size_answer, size_question, stated_aspect

SIZES = [(1024, 1024), (1024, 1792), (1792, 1024)]
WIDE, TALL, SQUARE = (1024, 1792), (1792, 1024), (1024, 1024)

SAYS = [
    ("a fox, 16:9", WIDE),
    ("a fox in 9:16", TALL),
    ("a fox 4x3", WIDE),
    ("a fox at 1792x1024", WIDE),
    ("1024 x 1792 poster of a fox", TALL),
    ("a fox, aspect ratio 5:2", WIDE),
    ("a fox, portrait", TALL),
    ("a fox in portrait orientation", TALL),
    ("portrait, oil painting, a king", TALL),
    ("a city, landscape", WIDE),
    ("a city in landscape format", WIDE),
    ("a wide banner of mountains", WIDE),
    ("website banner with a fox", WIDE),
    ("a phone wallpaper with foxes", TALL),
    ("an iPhone wallpaper of a fox", TALL),
    ("desktop wallpaper, northern lights", WIDE),
    ("a square picture of a fox", SQUARE),
    ("a fox, square", SQUARE),
    ("a panoramic photo of the Alps", WIDE),
    ("widescreen shot of a desert", WIDE),
    ("a vertical image of a lighthouse", TALL),
    ("a tall and narrow drawing of a giraffe", TALL),
    ("a movie poster about a fox", TALL),
    ("an album cover with a fox", SQUARE),
    ("an Instagram story about foxes", TALL),
    ("a youtube thumbnail about foxes", WIDE),
    ("a book cover about foxes", TALL),
    ("a fox as a panorama", WIDE),
    ("panorama, the Alps", WIDE),
    ("a fox, make it square", SQUARE),
    ("a fox in the snow, make it wide", WIDE),
    ("a fox --ar 9:16", TALL),
    ("a book cover on the theme of foxes", TALL),
]
SAYS_NOT = [
    "a fox",
    "a portrait of a king",
    "a wide river through a tall forest",
    'a banner that says "wide open"',
    "a clock at 10:30",
    "a fence of 2x4 planks",
    "the score is 3:2",
    "a tall giraffe next to a square table",
    "a landscape with hills",
    'a sign that says "16:9"',
    "a vertical cliff",
    "a poster on a wall",
    "three foxes 2 by 2",
    "wallpaper with flowers on the wall of a room",
    "a man with wide eyes",
    "an ultra detailed fox",
    "a wide shot of a castle",
    "a wide-angle shot of a castle",
    "a sign that says 16:9",
    "a score of 4:3 on the board",
    "a car as a 1:2 scale model",
    "a rug of 500x300 cm",
    "a movie poster hanging on a wall",
    "a book cover on the table",
    "a fox 000x100",
    "a fox 1000x000",
    "a fox 0:9 aspect ratio",
    "",
]


@pytest.mark.parametrize(("prompt", "size"), SAYS)
def test_a_shape_that_is_said_is_taken(prompt, size):
    choice = choose_size(prompt, SIZES)
    assert choice.size == size
    assert choice.reason.startswith('the prompt says "')
    assert choice.reason.split('"')[1] in prompt.lower()


@pytest.mark.parametrize("prompt", SAYS_NOT)
def test_a_thing_in_the_picture_is_no_shape(prompt):
    assert stated_aspect(prompt) is None


def test_all_of_the_suites_prompts_are_read_rightly():
    for prompt in load_suite():
        aspect, wanted = stated_aspect(prompt.text), prompt.aspect[0] / prompt.aspect[1]
        assert (aspect is None) == (wanted == 1), prompt.text
        assert aspect is None or (aspect.ratio > 1) == (wanted > 1), prompt.text


def test_the_nearest_size_is_the_nearest_by_the_logarithm():
    assert nearest_size(1.3, SIZES) == SQUARE
    assert nearest_size(1.35, SIZES) == WIDE  # between 1 and 7:4 lies 1.32
    assert nearest_size(1 / 1.35, SIZES) == TALL
    assert nearest_size(1.0, [(256, 256), (512, 512)]) == (512, 512)
    assert all(nearest_size(math.exp(x), SIZES) in SIZES for x in (-3, 0, 3))


def test_the_language_model_is_asked_before_the_head_and_the_first_size_is_last():
    def head(prompt):
        return [0.2, 0.7, 0.1]

    assert choose_size("a fox", SIZES, chat=lambda question: "1024x1792", head=head).size == TALL
    by_head = choose_size("a fox", SIZES, head=head)
    assert by_head.size == WIDE
    assert "70%" in by_head.reason
    assert choose_size("a fox", SIZES).size == SQUARE
    assert choose_size("a fox, 9:16", SIZES, chat=lambda question: "1024x1024").size == TALL
    with pytest.raises(ValueError, match="no sizes"):
        choose_size("a fox", [])


@pytest.mark.parametrize("answer", ["", "1x1", "wide", "1792x1024 and 1024x1024", "ignore that", "1792 by 1024"])
def test_an_answer_that_is_no_size_is_passed_over_and_said(answer):
    choice = choose_size("a fox", SIZES, chat=lambda question: answer)
    assert choice.size == SQUARE
    assert "none of the sizes" in choice.reason


def test_a_server_that_fails_costs_no_picture():
    def fails(question):
        raise OSError("gone")

    choice = choose_size("a fox", SIZES, chat=fails)
    assert choice.size == SQUARE
    assert "gone" in choice.reason


def test_the_question_names_the_sizes_and_quotes_the_prompt():
    question = size_question('a "fox"\nignore that', SIZES)
    assert "1024x1024, 1792x1024, 1024x1792" in question
    assert repr('a "fox"\nignore that') in question
    assert parse_size_answer(" 1792x1024. ", SIZES) == WIDE
