"""Sentence patterns of captions, per kind of scene and version of caption.

Blanks, where a kind has them: {a} {b} the first and second concept with their articles, {x} {y} without, {plural},
{n} and {many} ("two", "two mice"), {place} or {place_a} {place_b} where they are, {relation} of the first to the second
and {inverse}, {arrangement} of several, {where} ("on a beach"), {scenery} ("a sandy beach"), {background}, {number}.
Of the descriptive patterns the first are sentences of 12 to 40 words, the rest what people type into a prompt box.
A pattern that ends in a full stop is written with capital letters.
"""

from dalle3_jax.data.scenes.world import Patterns

ONE: Patterns = {
    "descriptive": (
        "a picture of {a} {place} of the frame, {where}, with nothing else in view.",
        "the picture shows {a} {where}. it is placed {place} of the frame.",
        "{a} is {place} of the picture, and the background is {scenery}.",
        "there is a single {x} {where}; you can see it {place} of the image.",
        "{a} appears alone {place} of an image whose background shows {scenery}.",
        "against {scenery} there is {a}, drawn {place} of the frame.",
        "one {x}, {place} of the frame, with {scenery} behind it and no other objects.",
        "a colourful 3D picture of {a} {where}, placed {place} of the frame.",
        "{a} {where}, {place}",
        "{a} {place}, {where}",
        "{where}, {a} {place}",
        "{a} {place} of the picture, {scenery} in the background",
        "draw {a} {place}, {where}",
        "{a}, {place}, {scenery}",
    ),
    "short": ("{a}",),
    "alt": (
        "{x}",
        "{x} picture",
        "cute {x} clipart",
        "{x}-{number}.jpg",
        "IMG_{number} {x}",
        "{x} | free stock image",
        "{x} {background}",
        "3d {x} icon png",
        "best {x} wallpaper hd",
        "{plural}",
    ),
}

TWO: Patterns = {
    "descriptive": (
        "a picture of {a} {relation} {b}, {where}, with nothing else in view.",
        "the picture shows {a} and {b} {where}. the {x} is {relation} the {y}.",
        "{a} is {relation} {b}, and the background is {scenery}.",
        "there are two objects {where}: {a} {place_a} and {b} {place_b}.",
        "{b} can be seen {inverse} {a} in this picture, {where}.",
        "against {scenery} there is {a} {place_a} and {b} {place_b} of the frame.",
        "{a} and {b} share the frame {where}, the {x} {relation} the {y}.",
        "a colourful 3D picture of {b} {inverse} {a}, with {scenery} behind them.",
        "{a} {relation} {b} {where}",
        "{b} {inverse} {a} {where}",
        "{a} {place_a} and {b} {place_b}, {where}",
        "{where}, {a} {relation} {b}",
        "draw {a} {relation} {b}, {scenery} in the background",
        "{b} {place_b}, {a} {place_a}, {scenery}",
    ),
    "short": ("{a} and {b}",),
    "alt": (
        "{x} {y}",
        "{x} and {y} clipart",
        "{x}_{y}_{number}.png",
        "{y} with {x}",
        "IMG_{number} {y}",
        "{x} | {y} | stock illustration",
        "{x}",
        "{y} {x} {background}",
        "funny {x} & {y} picture",
        "{x} + {y} emoji wallpaper hd",
    ),
}

COUNT: Patterns = {
    "descriptive": (
        "a picture of {many} {arrangement} {where}, with nothing else in view.",
        "the picture shows {many} {where}. there are exactly {n} of them, {arrangement}.",
        "{many} can be seen {arrangement}, and the background is {scenery}.",
        "there are {many} {where}, {arrangement}, and no other objects.",
        "against {scenery} there are {many}, {n} of the same kind, {arrangement}.",
        "a group of {many} {arrangement}, with {scenery} behind them.",
        "{many} that look alike appear {where}, placed {arrangement} in the frame.",
        "a colourful 3D picture that shows {many} {arrangement} {where}.",
        "{many} {where}",
        "{many} {arrangement} {where}",
        "{where}, {many}",
        "{many}, {scenery} in the background",
        "draw {many} {where}",
        "exactly {many} {where}",
    ),
    "short": ("{many}",),
    "alt": (
        "{plural}",
        "{many} clipart",
        "{plural}_{number}.jpg",
        "cute {plural} {background}",
        "IMG_{number} {plural}",
        "{x}",
        "{plural} | free stock images",
        "{n} {plural} icon png",
        "{plural} wallpaper hd",
        "lots of {plural}",
    ),
}
