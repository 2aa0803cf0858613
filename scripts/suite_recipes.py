"""How people ask for scenes, kind by kind: what `scripts/make_suite.py` makes the committed suite of.

Blanks are those of captions (grammar.py), and of the tables here: {said} says where things are, {drawing} and {manner}
the style, {letters} the drawn words, or in {sign} a sentence about them, {absent} what must not be there, {shape} the
aspect and {line} the direction. Labels ask for what the blanks of a pattern name: no pattern asks for more by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dalle3_jax.data.scenes.concepts import CONCEPTS

LONGEST_WORD = 10  # letters: what 128 pixels have room for
WIDE, TALL = (7, 4), (4, 7)


@dataclass(frozen=True)
class Recipe:
    """How prompts of a kind are made: from which scenes, and in which words.

    `kinds` of scene take turns, and `part` says the rest of the part of the whole world; a prompt has at least so many
    `objects`, drawn `words`, and words of its own in all (`length`).
    """

    kinds: tuple[str, ...]
    patterns: tuple[str, ...]
    part: Mapping[str, Any]
    objects: int = 1
    words: int = 0
    length: int = 1


PLAIN = {"tinted": 0, "words": 0}
COLOURFUL = {
    "tinted": 1,
    "words": 0,
    "concepts": [row.name for row in CONCEPTS if row.tints],
}
LONG = (
    "I am making a cover for a story that I wrote for my daughter, and I would like a {drawing} of {said}. the "
    "whole thing should be set {where}. {sign} keep the shapes clean and the colours strong, so that everything "
    "is easy to recognise from far away. please leave out whatever I have not asked for, because the page will be "
    "printed small and must not look crowded.",
    "imagine a quiet moment, with nobody around and no sound to be heard: {scenery}, and in front of it {said}. "
    "{sign} the mood is calm and friendly, a little dreamy perhaps, and nothing else draws the eye. make it a "
    "{drawing}, tidy and simple, of the sort that one would gladly hang above a desk or send to an old friend.",
    "this is for the front page of our school's website, where visitors should smile before they read anything. "
    "what we want to see is {said}, and it should all happen {where}. {sign} do it {manner}, with generous space "
    "around each thing and without any frame. we have tried a photograph before, but it looked far too busy, so "
    "less is more here.",
    "a {drawing} that tells a whole story without a single sentence: {said}. nobody knows how they came to be "
    "{where}, and nobody dares to ask, yet they look as though they had always belonged there. {sign} light, "
    "cheerful colours and crisp outlines, please, and no other things in the picture, neither in the distance nor "
    "close to the edges.",
)

RECIPES = {
    "one object": Recipe(
        ("one", "single"),
        (
            "a {drawing} of {a}",
            "{a}, {drawing}",
            "just {a}, {manner}",
            "{a} as a {drawing}",
            "please draw one {x} {manner}",
            "{drawing}: a single {x}",
        ),
        PLAIN,
    ),
    "two objects": Recipe(
        ("two",),
        (
            "{a} and {b}",
            "{b} together with {a}",
            "{a} and {b} {where}",
            "a picture of {a} and {b}",
            "can you draw {a} and {b}?",
            "one {x} and one {y} {where}",
        ),
        PLAIN,
    ),
    "counting": Recipe(
        ("count",),
        (
            "{many}",
            "{many} {where}",
            "exactly {many}",
            "{many} {arrangement}",
            "I need a picture of {many}",
            "{many}, no more and no fewer",
            "{many} {arrangement} {where}",
        ),
        PLAIN,
    ),
    "tints": Recipe(
        ("two", "count"),
        (
            "{things}",
            "{things} {where}",
            "a picture of {things}",
            "{things}, nothing else",
            "I would like to see {things} {where}",
            "draw {things}, please",
        ),
        COLOURFUL,
    ),
    "positions": Recipe(
        ("one", "two", "between"),
        (
            "{said}",
            "a picture with {said}",
            "{said}, {where}",
            "{where}: {said}",
            "{said}, {manner}",
            "a {drawing} with {said}",
        ),
        PLAIN,
    ),
    "style": Recipe(
        ("one", "two"),
        (
            "a {drawing} of {things}",
            "a {drawing} of {things} {where}",
            "{things} {where}, {manner}",
            "{things}, drawn {manner}",
            "{drawing} showing {things}, with {scenery} behind",
            "{where}, {things}, all {manner}",
        ),
        PLAIN,
    ),
    "words": Recipe(
        ("one",),
        (
            "{things} and {letters}",
            "{things} with {letters}",
            "{things} {where} with {letters}",
            "a poster of {things} with {letters}",
            "{letters} and {things}",
            "a postcard: {things} {where}, and {letters}",
        ),
        {"tinted": 0, "words": 1, "longest_word": LONGEST_WORD},
        words=1,
    ),
    "long descriptions": Recipe(
        ("two", "between", "row"),
        LONG,
        {"tinted": 0.5, "words": 0.5, "longest_word": LONGEST_WORD},
        length=61,
    ),
    "rare combinations": Recipe(
        ("row", "count"),
        (
            "{things}",
            "{said}",
            "{things} {where}",
            "a {drawing} of {things}",
            "{things}, {manner}",
            "{said}, {where}, {manner}",
        ),
        COLOURFUL,
        objects=4,
    ),
    "negation": Recipe(
        ("one", "two", "count"),
        (
            "{things} {where}, without any {absent}",
            "{things}, but no {absent}",
            "{things} with no {absent} around",
            "no {absent}, only {things}",
            "{where}: {things}, and definitely no {absent}",
            "a {drawing} of {things}, no {absent} please",
        ),
        PLAIN,
    ),
    "aspect ratios": Recipe(
        ("two", "row"),
        (
            "a {shape} picture of {said}",
            "{said}, {shape} format",
            "{shape} image: {said}, {where}",
            "a {shape} drawing with {said}",
            "{said}, {where}, in a {shape} frame",
        ),
        PLAIN,
    ),
    "rows of several": Recipe(
        ("row",),
        (
            "{said}",
            "{said}, {where}",
            "a {line} with {list}, {arrangement}",
            "{arrangement}, I want to see {list}",
            "{where}, {arrangement}: {list}",
            "line up {list}, {arrangement}",
        ),
        PLAIN,
    ),
}
SAID = {
    "one": ("{a} {place}",),
    "two": ("{a} {relation} {b}", "{b} {inverse} {a}"),
    "count": ("{many} {arrangement}",),
    "row": ("{list}, {arrangement}", "{list} {arrangement}"),
    "between": ("{a} {between} {b} and {c}", "{b} and {c} with {a} {between} them"),
}
DRAWING = {
    "3d": ("3D render", "3D icon", "glossy 3D illustration"),
    "flat": ("flat icon", "flat vector graphic", "flat, clean illustration"),
    "noto": ("Noto emoji", "Noto emoji drawing", "Noto-style cartoon"),
}
MANNER = {
    "3d": ("in 3D", "in glossy 3D", "as a 3D render"),
    "flat": ("in a flat style", "in flat design", "as flat vector art"),
    "noto": ("in Noto emoji style", "like a Noto emoji", "in the style of Noto emoji"),
}
ON = {
    "sign": ('a sign that says "{text}"', 'a white sign reading "{text}"', 'the word "{text}" on a sign'),
    "banner": ('a banner that says "{text}"', '"{text}" on a {colour} banner', 'the word "{text}" on a banner'),
    "free": ('the word "{text}"', 'the word "{text}" in {colour}', '"{text}" written at the {slot}'),
}
SHAPES = {WIDE: ("wide", "panoramic", "widescreen"), TALL: ("tall", "vertical", "tall and narrow")}
