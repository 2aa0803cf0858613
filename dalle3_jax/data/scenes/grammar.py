"""How the whole world is spoken of: the sentences of descriptive captions, and the noise of alternative texts.

Blanks of the scene (made in captions.py): {things} all objects with their numbers, {a} {b} ... the concepts in order
with their articles, {x} {y} without, {n} {many} {plural}, {place} of the first, {relation}, {inverse}, {arrangement},
{where}, {scenery}, {background}, {list} the concepts from one end to the other, {signs} a sentence for each word,
{extra} and {more} details of the background. Blanks of the grammar stand for one of their sentences, which may hold
blanks again.
"""

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
PICTURE = "a picture"  # of a style that came with a pack of sprites

DESCRIPTIVE = (
    "{picture} of {things} {where}. {positions} {signs} {extra} {closing}",
    "{picture} that shows {things} {where}. {positions} {extra} {signs}",
    "this is {picture}. it shows {things} {where}. {positions} {signs} {more}",
    "the background is {scenery}, and in front of it {are} {things}. {positions} {signs} {the_whole}",
    "{things} {where}, in {picture}. {positions} {signs} {extra}",
    "{where}, there {are} {things}. {extra} {positions} {signs} {the_whole}",
    "{the_whole} it shows {things}. {positions} {signs} the setting is {scenery}. {extra}",
    "in the foreground {are} {things}, and one sees {scenery} behind. {positions} {signs} {the_whole} {closing}",
    "{picture}: {things}, {where}. {positions} {signs} {more} {closing}",
    "we see {things} {where}. {positions} {signs} {more} {the_whole}",
    "{signs} {picture} of {things}, with {scenery} as the background. {positions} {extra}",
    "{extra} one sees {things} {where}. {positions} {signs} {the_whole}",
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
WHOLE: Patterns = {"descriptive": DESCRIPTIVE, "short": SHORT, "alt": ALT}

SHARED: Patterns = {
    "closing": (
        "nothing else is in view.",
        "there are no other objects.",
        "nothing more can be seen.",
        "that is all there is.",
        "the rest of the frame is empty.",
        "no people are in sight.",
    ),
    "the_whole": (
        "the whole is {picture}.",
        "everything is drawn as {picture}.",
        "it looks like {picture}.",
        "the style is that of {picture}.",
        "the scene is {picture}.",
    ),
}

ONE: Patterns = {
    "positions": (
        "the {x} is {place} of the frame.",
        "it can be seen {place} of the picture: {a}.",
        "{a} stands {place} of the image.",
        "the {x}, the only object, is {place}.",
        "{place} of the frame there is {a}.",
    )
}
TWO: Patterns = {
    "positions": (
        "the {x} is {relation} the {y}.",
        "the {y} is {inverse} the {x}.",
        "{a} is {relation} {b}.",
        "the {x} is {place_a} and the {y} is {place_b}.",
        "{place_b} there is {b}, and {place_a} there is {a}.",
        "the two things are placed so that the {x} is {relation} the {y}.",
    )
}
COUNT: Patterns = {
    "positions": (
        "there are exactly {n} of them, {arrangement}.",
        "the {n} {plural} are {arrangement}.",
        "one can count {many}, {arrangement}.",
        "{many} stand {arrangement}.",
    )
}
SINGLE: Patterns = {
    "positions": (
        "there is exactly one, {arrangement}, in the middle.",
        "a single {x} stands {arrangement} in the centre.",
        "it is one {x}, {arrangement}, in the middle of the frame.",
    )
}
ROW: Patterns = {
    "positions": (
        "{arrangement} they are {list}.",
        "{arrangement} one sees {list}.",
        "they stand in one line, {arrangement}: {list}.",
        "the order {arrangement} is {list}.",
    )
}
BETWEEN: Patterns = {
    "positions": (
        "the {x} is between the {y} and the {z}.",
        "{a} stands between {b} and {c}.",
        "between the {y} and the {z} there is {a}.",
        "on one side of the {x} is {b}, and on the other side is {c}; the {x} is between them.",
    )
}
ANYWHERE: Patterns = {"positions": ("they are scattered over the frame.", "nothing is in any order.")}

SIGNS = {
    "sign": (
        'a white sign {slot} reads "{text}" in {colour} letters.',
        '{slot} there is a white sign that says "{text}" in {colour}.',
        'the {colour} letters "{text}" stand on a white sign {slot}.',
    ),
    "banner": (
        'a {colour} banner {slot} reads "{text}".',
        '{slot} a {colour} banner says "{text}" in white letters.',
        'on a {colour} banner {slot} one reads "{text}".',
    ),
    "free": (
        'the word "{text}" is written {slot} in {colour} letters.',
        '{slot} one reads "{text}" in {colour} letters.',
        '{colour} letters {slot} spell "{text}".',
    ),
}
SLOT = {
    "top": ("at the top", "along the upper edge", "at the top of the picture"),
    "bottom": ("at the bottom", "along the lower edge", "at the bottom of the picture"),
}

DETAILS = {
    "beach": (
        "pale sand fills the lower part of the picture.",
        "a strip of turquoise water lies behind the sand.",
        "the sky above the sea is light blue and clear.",
        "small waves draw a white line along the shore.",
    ),
    "meadow": (
        "soft green hills roll across the picture.",
        "white clouds float in a blue sky.",
        "the grass is bright and freshly cut.",
        "it is a clear day in early summer.",
    ),
    "desert": (
        "orange dunes rise one behind the other.",
        "a pale sun stands high on the right.",
        "the air looks hot and dusty.",
        "the sand lies in long smooth waves.",
    ),
    "night sky": (
        "small stars are sprinkled over the dark blue.",
        "a pale yellow moon shines in the upper right.",
        "the dark turns violet towards the lower edge.",
        "everything around is quiet and dark.",
    ),
    "snow": (
        "fresh white snow covers the ground.",
        "single flakes fall from a pale sky.",
        "low white hills close off the view.",
        "the light is cold and even.",
    ),
    "sea": (
        "the water grows darker towards the bottom.",
        "small round bubbles rise through the blue.",
        "light falls in from the surface above.",
        "the sea floor is a dim band of blue.",
    ),
    "pink wall": (
        "the wall is plain and evenly lit.",
        "its pink is a little lighter in the middle.",
        "no pattern or shadow disturbs the wall.",
        "the whole background is of one soft colour.",
    ),
    "wooden floor": (
        "brown boards run from left to right.",
        "thin dark gaps separate the planks.",
        "the wood is warm and a little worn.",
        "some boards are lighter than others.",
    ),
    "sunset": (
        "a bright sun touches the horizon.",
        "the sky glows from violet to orange.",
        "the land below is a dark silhouette.",
        "it is the last light of the day.",
    ),
    "city": (
        "grey towers rise behind a dark street.",
        "the houses in the distance fade into the haze.",
        "the sky over the roofs is pale.",
        "the street in front is wide and flat.",
    ),
    "forest": (
        "dark pointed firs stand close together.",
        "the ground is covered with green moss.",
        "a lighter row of trees shows behind.",
        "little light falls between the trunks.",
    ),
    "mountains": (
        "grey peaks with white tips stand against the sky.",
        "a green valley lies in front of the range.",
        "the highest peak is a little left of the middle.",
        "the mountain air looks clear and thin.",
    ),
    "road": (
        "a grey road runs towards the horizon.",
        "a dashed white line marks its middle.",
        "yellow fields lie on both sides.",
        "it is a long straight way.",
    ),
    "checkered floor": (
        "dark and light tiles alternate on the floor.",
        "a plain turquoise wall stands behind the tiles.",
        "the floor looks clean and polished.",
        "it could be the corner of a kitchen.",
    ),
    "red curtain": (
        "heavy red folds hang from above.",
        "the boards of a stage lie in front of the cloth.",
        "a spot of light falls on the middle.",
        "it looks like a small theatre.",
    ),
}
