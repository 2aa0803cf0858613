"""Layouts of scenes, and how they are said: places, relations, rows, clusters, and anywhere at all."""

from random import Random

from dalle3_jax.data.scenes.world import Cell, Layout

HALF = (
    0.5  # the first world has one size for every object: a model sees each concept more often at the size it will draw
)

THIRDS = 0.4, 0.6
"""Where the middle of a frame begins and ends, as fractions: the centre of a sprite at an edge lies well inside."""

CENTRES = {
    "centre": (0.5, 0.5),
    "left": (0.25, 0.5),
    "right": (0.75, 0.5),
    "top": (0.5, 0.25),
    "bottom": (0.5, 0.75),
    "top left": (0.25, 0.25),
    "top right": (0.75, 0.25),
    "bottom left": (0.25, 0.75),
    "bottom right": (0.75, 0.75),
}
PHRASES = {
    "centre": ("in the centre", "in the middle", "in the center"),
    "left": ("on the left", "on the left side", "at the left"),
    "right": ("on the right", "on the right side", "at the right"),
    "top": ("at the top", "near the top", "at the upper edge"),
    "bottom": ("at the bottom", "near the bottom", "at the lower edge"),
    "top left": ("in the top left corner", "in the upper left corner", "at the top left"),
    "top right": ("in the top right corner", "in the upper right corner", "at the top right"),
    "bottom left": ("in the bottom left corner", "in the lower left corner", "at the bottom left"),
    "bottom right": ("in the bottom right corner", "in the lower right corner", "at the bottom right"),
}
TO_THE_LEFT = ("to the left of", "on the left of", "left of")
TO_THE_RIGHT = ("to the right of", "on the right of", "right of")
OVER, UNDER = ("above", "over", "on top of"), ("below", "under", "underneath")
IN_A_ROW = ("side by side", "next to each other", "in a row")
IN_A_TRIANGLE = ("in a triangle", "one above the other two", "close together")
IN_A_CLUSTER = ("in a cluster", "close together", "huddled together", "in a tight group")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


def cell_at(place: str, size: float) -> Cell:
    """The cell of a place."""
    x, y = CENTRES[place]
    return Cell(x, y, size, place)


def place_at(x: float, y: float) -> str:
    """The name of the place at a point of the frame."""
    low, high = THIRDS
    across = "left" if x < low else "right" if x > high else ""
    down = "top" if y < low else "bottom" if y > high else ""
    return f"{down} {across}".strip() or "centre"


def place_layouts(size: float) -> tuple[Layout, ...]:
    """One object in each of the nine places."""
    return tuple(
        Layout(name, (cell_at(name, size),), PHRASES[name], tiers=1 if centre[1] == 0.5 else 2)
        for name, centre in CENTRES.items()
    )


def relation_layouts(size: float) -> tuple[Layout, ...]:
    """Two concepts beside or above each other, named from the first."""
    left, right, top, bottom = (cell_at(place, size) for place in ("left", "right", "top", "bottom"))
    return (
        Layout("left of", (left, right), TO_THE_LEFT, (0, 1), TO_THE_RIGHT),
        Layout("right of", (right, left), TO_THE_RIGHT, (0, 1), TO_THE_LEFT),
        Layout("above", (top, bottom), OVER, (0, 1), UNDER, tiers=2),
        Layout("below", (bottom, top), UNDER, (0, 1), OVER, tiers=2),
    )


def first_count_layouts() -> tuple[Layout, ...]:
    """Two of a kind side by side, three in a triangle: the counts of the first world."""
    low = cell_at("bottom left", HALF), cell_at("bottom right", HALF)
    return (
        Layout("two", (cell_at("left", HALF), cell_at("right", HALF)), IN_A_ROW, (0, 0)),
        Layout("three", (cell_at("top", HALF), *low), IN_A_TRIANGLE, (0, 0, 0), tiers=2),
    )


def row_cells(count: int, *, down: bool = False) -> tuple[Cell, ...]:
    """`count` cells in one line, from left to right or from top to bottom."""
    lines = [(i + 0.5) / count for i in range(count)]
    size, points = min(0.45, 0.96 / count), [(0.5, line) if down else (line, 0.5) for line in lines]
    return tuple(Cell(x, y, size, place_at(x, y)) for x, y in points)


CLUSTERS = {
    2: ((0.34, 0.4), (0.64, 0.62)),
    3: ((0.5, 0.28), (0.3, 0.68), (0.7, 0.68)),
    4: ((0.31, 0.3), (0.69, 0.32), (0.3, 0.7), (0.7, 0.68)),
    5: ((0.24, 0.26), (0.76, 0.24), (0.5, 0.5), (0.25, 0.76), (0.75, 0.75)),
}


def count_layouts() -> tuple[Layout, ...]:
    """One to five of a kind, in rows and in clusters."""
    one = Layout("one", (cell_at("centre", 0.5),), ("by itself", "all alone", "on its own"))
    rows = [Layout(f"row of {NUMBERS[n]}", row_cells(n), IN_A_ROW, (0,) * n) for n in CLUSTERS]
    clusters = []
    for count, centres in CLUSTERS.items():
        # Captions speak of the cluster as a whole, which is in the centre.
        cells = tuple(Cell(x, y, 0.32 if count == 5 else 0.4, "centre") for x, y in centres)
        tiers = 3 if count == 5 else 2
        clusters.append(Layout(f"cluster of {NUMBERS[count]}", cells, IN_A_CLUSTER, (0,) * count, tiers=tiers))
    return (one, *rows, *clusters)


def row_layouts(*numbers: int) -> tuple[Layout, ...]:
    """Different concepts in a line, named from one end to the other."""
    layouts = []
    for count in numbers:
        who = tuple(range(count))
        across, down = row_cells(count), row_cells(count, down=True)
        layouts.append(Layout(f"row of {NUMBERS[count]}", across, ("from left to right",), who))
        if count < 5:
            layouts.append(Layout(f"column of {NUMBERS[count]}", down, ("from top to bottom",), who, tiers=count))
    return tuple(layouts)


def between_layouts() -> tuple[Layout, ...]:
    """The first concept between the other two, across or down."""
    layouts = []
    for name, down in (("between, across", False), ("between, down", True)):
        first, middle, last = row_cells(3, down=down)
        tiers = 3 if down else 1
        layouts.append(Layout(name, (middle, first, last), ("between",), (0, 1, 2), tiers=tiers))
        layouts.append(Layout(f"{name}, turned", (middle, last, first), ("between",), (0, 1, 2), tiers=tiers))
    return tuple(layouts)


def corner_layouts(size: float) -> tuple[Layout, ...]:
    """Four different concepts, one in each corner."""
    cells = tuple(cell_at(place, size) for place in ("top left", "top right", "bottom left", "bottom right"))
    return (Layout("corners", cells, ("from the top left to the bottom right",), (0, 1, 2, 3), tiers=2),)


SIGN = (Layout("lone sign", (), ("by itself",), (), sign=True),)
"""Nothing but a word in the middle."""
SCENERY = (Layout("scenery", (), ("by itself",), (), silent=True),)
"""Nothing but the background."""


def random_layouts(most: int, variants: int, seed: int = 0) -> tuple[Layout, ...]:
    """None to `most` objects, in no order, some of one concept: a fixed list that `seed` decides."""
    draw, layouts = Random(seed), []
    for variant in range(variants):
        count = variant % (most + 1)
        side = 1 if count < 2 else 2 if count < 5 else 3
        spots = draw.sample([(i, j) for i in range(side) for j in range(side)], count)
        size = draw.uniform(*((0.25, 0.75), (0.22, 0.5), (0.2, 0.34))[side - 1])
        cells = tuple(Cell((i + 0.5) / side, (j + 0.5) / side, size, "somewhere") for i, j in spots)
        names: list[int] = []
        for _ in spots:
            names.append(draw.choice(names) if names and draw.random() < 0.25 else len(set(names)))
        layouts.append(Layout(f"anywhere {variant}", cells, ("here and there",), tuple(names), tiers=side))
    return tuple(layouts)
