"""Sentences of descriptive captions of the whole world, and the noise of alternative texts.

Blanks of the scene (made in captions.py): {things} all objects with their numbers, {a} {b} ... the concepts in order
with their articles, {x} {y} without, {n} {many} {plural}, {place} of the first, {relation}, {inverse}, {arrangement},
{where}, {scenery}, {background}, {list} and {the_list} the concepts from one end to the other, {names} the same without
articles, {signs} a sentence for each word, {extra} and {more} details of the background. Blanks of the grammar stand
for one of their sentences, which may hold blanks again. Things are introduced by {things} and are "the" ones after it.
Sentences under "exact" say that there are no more of a concept, {alone} and {closing} that there is nothing else:
blanks that hold nothing where that would not be true.
"""

from dalle3_jax.data.scenes.typed import PROMPT
from dalle3_jax.data.scenes.world import Patterns

PICTURES = {
    "3d": ("a 3D render", "a glossy 3D picture", "a 3D illustration", "a rounded 3D rendering", "a 3D emoji picture"),
    "flat": ("a flat illustration", "a flat vector picture", "a flat icon drawing", "a flat design graphic"),
    "noto": (
        "a Noto emoji picture",
        "a Noto style cartoon",
        "a drawing in the Noto emoji style",
        "a Noto illustration",
    ),
}
OTHER_PICTURE = "{article} {style} picture"  # of a style that came with a pack of sprites
TOUCHING = "on top of"  # a relation of the first world's that says too much of things which stand apart

DESCRIPTIVE = (
    "{picture} of {things} {where}. {positions} {signs} {extra} {closing}",
    "{picture} showing {things} {where}. {positions} {extra} {signs}",
    "this is {picture} of {things} {where}. {positions} {signs} {more}",
    "this is {picture}, set {where}. it shows {things}. {positions} {signs} {extra} {closing}",
    "the scene is set {where} and shows {things}. {positions} {signs} {extra} {the_whole}",
    "{things} {where}, shown in {picture}. {positions} {signs} {extra}",
    "{where}, there {are} {things}. {extra} {positions} {signs} {the_whole}",
    "here {are} {things} {where}. {positions} {signs} {more} {the_whole}",
    "{setting} {extra} the picture shows {things}. {positions} {signs} {the_whole}",
    "in the foreground {are} {things}. {positions} {signs} {setting} {extra} {the_whole} {closing}",
    "{picture}: {things} {where}. {positions} {signs} {more} {closing}",
    "we see {things} {where}. {positions} {signs} {more} {the_whole}",
    "{picture} of {things}. {positions} {setting} {extra} {signs} {closing}",
    "the picture shows {things} {where}. {the_whole} {positions} {extra} {signs}",
    "{things} can be seen {where}. {positions} {the_whole} {signs} {more}",
    "this image, {picture}, shows {things} {where}. {extra} {positions} {signs} {closing}",
)
SHORT = ("{things}",)
ALT = (
    "{x}",
    "{x} picture",
    "cute {x} clipart",
    "{x}-{number}.jpg",
    "IMG_{number} {x}",
    "{x} | free stock image",
    "{x} {background}",
    "{tag} {x} icon png",
    "best {x} wallpaper hd",
    "{plural}",
    "{things}",
    "{wrong}",
    "{wrong} {background} free download",
    "{x} and {wrong}",
    "lots of {plural}",
    "{background}",
    "{tag} art {number}",
)
WHOLE: Patterns = {"descriptive": DESCRIPTIVE, "short": SHORT, "alt": ALT, "prompt": PROMPT}

BARE: Patterns = {
    "descriptive": (
        "{picture} of {scenery}. {signs} {extra} {the_whole}",
        "the picture shows {scenery}. {extra} {signs}",
        "this is {picture}, set {where}. {signs} {extra}",
        "there are no objects {where}. {signs} {more}",
        "{setting} {signs} {extra} {the_whole}",
        "{picture}: {scenery}. {more} {signs}",
        "we look at {scenery}. {signs} {extra} {the_whole}",
    ),
    "short": ("{scenery}",),
    "alt": ("{background}", "{background} wallpaper hd", "IMG_{number} {background}", "{tag} art {number}"),
    "prompt": PROMPT,
}
"""Of scenes without objects: a background, or one with a word on it."""

SHARED: Patterns = {
    "closing": (
        "nothing else stands in the foreground.",
        "there are no other objects.",
        "no other objects are in the picture.",
        "no further objects can be seen.",
        "that is all there is.",
    ),
    "the_whole": (
        "the image is {picture}.",
        "the whole scene has the look of {picture}.",
        "in style, this is {picture}.",
        "the style is that of {picture}.",
    ),
    "setting": (
        "the background shows {scenery}.",
        "the backdrop is {scenery}.",
        "the setting is {scenery}.",
    ),
}

ONE: Patterns = {
    "positions": (
        "the {x} is {place} of the frame.",
        "the {x} appears {place} of the picture.",
        "{place} of the frame is the {x}.",
        "the {x} stands {place} of the image.",
        "the {x} has been placed {place}.",
        "the {x} has its place {place} of the picture.",
    )
}
TWO: Patterns = {
    "positions": (
        "the {x} is {relation} the {y}.",
        "the {y} is {inverse} the {x}.",
        "the {x} has been placed {relation} the {y}.",
        "the {x} is {place_a} and the {y} is {place_b}.",
        "{place_b} is the {y}, and {place_a} is the {x}.",
        "the {x} appears {relation} the {y}.",
        "the {y} stands {place_b}, with the {x} {relation} it.",
    )
}
NUMBERED = (
    "the {n} {plural} are {arrangement}.",
    "the {n} {plural} stand {arrangement}.",
    "the {plural} are placed {arrangement}.",
    "{all} {plural} are {arrangement}.",
)
COUNT: Patterns = {
    "positions": NUMBERED,
    "exact": (
        *NUMBERED,
        "there are exactly {n} of them, {arrangement}.",
        "exactly {n} {plural} stand {arrangement}.",
        "the {plural} stand {arrangement}, and there are exactly {n}.",
    ),
}
SINGLE: Patterns = {
    "positions": (
        "the {x} stands in the middle of the frame.",
        "the {x} appears in the centre of the picture.",
    ),
    "exact": (
        "there is exactly one {x}, {alone} in the middle of the frame.",
        "just one {x} stands {alone} in the centre.",
        "it is a single {x}, {alone} in the middle of the picture.",
    ),
}
ROW: Patterns = {
    "positions": (
        "{arrangement}, they are {the_list}.",
        "{the_list} are lined up {arrangement}.",
        "in a line {arrangement} stand {the_list}.",
        "the order {arrangement} is {names}.",
        "{arrangement} stand {the_list}.",
        "{the_list}: that is their order {arrangement}.",
    )
}
CORNERS: Patterns = {
    "positions": (
        "there is one in each corner: {the_list}, {arrangement}.",
        "{the_list} stand in the four corners, {arrangement}.",
        "the corners show {the_list}, {arrangement}.",
    )
}
BETWEEN: Patterns = {
    "positions": (
        "the {x} is between the {y} {side_b} and the {z} {side_c}.",
        "between the {y} {side_b} and the {z} {side_c} stands the {x}.",
        "the {y} is {side_b}, the {z} is {side_c}, and the {x} is between them.",
        "{side_b} is the {y}, {side_c} is the {z}, and between the two stands the {x}.",
        "the {x} has its place between the {y} {side_b} and the {z} {side_c}.",
    )
}
SIDES = {
    "left": ("on the left", "on the left side", "to the left"),
    "right": ("on the right", "on the right side", "to the right"),
    "top": ("above", "higher up", "further up"),
    "bottom": ("below", "lower down", "further down"),
}
ANYWHERE: Patterns = {"positions": ("everything is placed at random.", "nothing is in any order.")}

SIGNS = {
    "sign": (
        'a white sign {slot} reads "{text}" in {colour} letters.',
        '{slot} there is a white sign that says "{text}" in {colour}.',
        'the {colour} letters "{text}" stand on a white sign {slot}.',
        'a white sign {slot} bears the word "{text}" in {colour}.',
        '{slot}, {colour} letters on a white sign spell "{text}".',
    ),
    "banner": (
        'a {colour} banner {slot} reads "{text}".',
        '{slot}, a {colour} banner says "{text}" in white letters.',
        'the word "{text}" stands in white on a {colour} banner {slot}.',
        '{slot} there is a {colour} banner with the word "{text}".',
    ),
    "free": (
        'the word "{text}" is written {slot} in {colour} letters.',
        '{slot}, the word "{text}" stands in {colour} letters.',
        '{colour} letters {slot} spell "{text}".',
        '{slot} it says "{text}" in {colour}.',
    ),
}
SLOT = {
    "top": ("at the top", "along the upper edge", "at the top of the picture"),
    "bottom": ("at the bottom", "along the lower edge", "at the bottom of the picture"),
    "middle": ("in the middle", "in the centre of the picture", "across the middle"),
}
