"""Phrases of the whole world's captions for backgrounds, and when they must not stand.

A detail is said only where what it speaks of can be seen, and of things like those in the background nobody says how
many there are in all.
"""

from dalle3_jax.data.scenes.lettering import Word, band
from dalle3_jax.data.scenes.scene import PlacedObject, Scene

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

Spot = tuple[float, float, float, float]
SUN, MOON = (0.72, 0.07, 0.92, 0.27), (0.74, 0.09, 0.92, 0.27)
LOWEST = (0.0, 0.82, 1.0, 1.0)
SPOTS: dict[str, tuple[Spot, ...]] = {
    "white clouds float in a blue sky.": ((0.09, 0.05, 0.39, 0.24), (0.68, 0.13, 0.95, 0.31)),
    "a pale sun stands high on the right.": (SUN,),
    "a pale yellow moon shines in the upper right.": (MOON,),
    "a night sky with stars and a moon": (MOON,),
    "the dark turns violet towards the lower edge.": (LOWEST,),
    "the water grows darker towards the bottom.": (LOWEST,),
    "the sea floor is a dim band of blue.": (LOWEST,),
    "a bright sun touches the horizon.": ((0.34, 0.50, 0.66, 0.70),),
    "the land below is a dark silhouette.": (LOWEST,),
    "grey towers rise behind a dark street.": (LOWEST,),
    "the street in front is wide and flat.": (LOWEST,),
    "the ground is covered with green moss.": (LOWEST,),
    "the highest peak is a little left of the middle.": ((0.34, 0.16, 0.50, 0.34),),
    "a dashed white line marks its middle.": ((0.46, 0.82, 0.54, 1.0),),
    "the boards of a stage lie in front of the cloth.": (LOWEST,),
    "on a stage with a red curtain": (LOWEST,),
    "a stage with a red curtain": (LOWEST,),
}
"""What is said of a background -> where in the frame it is (left, top, right, bottom, as fractions)."""

ALSO_THERE = {
    "beach": {"ocean wave"},
    "meadow": {"cloud", "rain cloud"},
    "desert": {"sun"},
    "night sky": {"star", "crescent moon"},
    "snow": {"snowflake"},
    "sea": {"ocean wave"},
    "sunset": {"sun"},
    "city": {"house", "office building", "hospital", "factory"},
    "forest": {"tree", "palm tree"},
    "mountains": {"mountain", "volcano"},
}
"""The concepts that a background shows too, more or less: which of them are meant, and how many, is not clear there."""


def visible_phrases(scene: Scene, phrases: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `phrases` that speak of nothing that an object or a word covers."""
    return tuple([text for text in phrases if text not in SPOTS or not is_covered(scene, SPOTS[text])])


def is_covered(scene: Scene, spots: tuple[Spot, ...]) -> bool:
    """Whether an object or a word stands in one of the spots."""
    over = [*map(cell_spot, scene.objects), *map(word_spot, scene.words)]
    return any(spots_overlap(a, b) for a in spots for b in over)


def cell_spot(placed: PlacedObject) -> Spot:
    """The spot that an object covers of a square frame, and of no frame more."""
    x, y, half = placed.cell.x, placed.cell.y, placed.cell.size / 2
    return x - half, y - half, x + half, y + half


def word_spot(word: Word) -> Spot:
    """The band of a word."""
    top, bottom = band(word.slot)
    return 0.0, top, 1.0, bottom


def spots_overlap(a: Spot, b: Spot) -> bool:
    """Whether two spots have more than an edge in common."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def background_repeats_object(scene: Scene) -> bool:
    """Whether the background shows something that could be counted among the objects."""
    return bool(ALSO_THERE.get(scene.background, set()) & set(scene.concepts))
