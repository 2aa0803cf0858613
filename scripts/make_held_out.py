"""Writes what is held out of training, once for each world: python scripts/make_held_out.py WORLD

first: about 10 % of the pairs of concepts, and every second concept on one background.
whole: about 5 % of the pairs, one of three styles for every third concept that has several, one number from two to five
for every second concept, and a tenth of the words.

Rounds of matchings spread the pairs evenly: in each round every concept gets one partner that it must never meet.
Writing a list anew would leak what was held out into training: the script refuses to overwrite one.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dalle3_jax.data.scenes.backgrounds import BACKGROUNDS
from dalle3_jax.data.scenes.concepts import CONCEPTS
from dalle3_jax.data.scenes.worlds import FIRST_BACKGROUNDS, FIRST_CONCEPTS, WORDS

FOLDER = Path(__file__).parents[1] / "dalle3_jax/data/scenes"
Rows = dict[str, list[Any]]


def matchings(names: Sequence[str], rounds: int, draw: random.Random) -> list[tuple[str, str]]:
    """Pairs of which every name is in `rounds`, or in one fewer where the number of names is odd."""
    pairs: set[tuple[str, str]] = set()
    while len(pairs) < rounds * (len(names) // 2):
        order = draw.sample(names, len(names))
        pairs |= {(min(pair), max(pair)) for pair in zip(order[::2], order[1::2], strict=False)} - pairs
    return sorted(pairs)[: rounds * (len(names) // 2)]


def first() -> Rows:
    """The lists of the first world."""
    draw, names = random.Random(20240917), [c.name for c in CONCEPTS[:FIRST_CONCEPTS]]
    places = [b.name for b in BACKGROUNDS[:FIRST_BACKGROUNDS]]
    pairs = matchings(names, 5, draw)  # 5 of 47 possible partners of each concept
    lonely = draw.sample(names, len(names) // 2)
    return {"pairs": pairs, "settings": sorted((name, places[i % len(places)]) for i, name in enumerate(lonely))}


def whole() -> Rows:
    """The lists of the whole world."""
    draw, names = random.Random(20261125), [c.name for c in CONCEPTS]
    pairs = matchings(names, len(names) // 20, draw)
    several = [concept for concept in CONCEPTS if len(concept.styles) > 1]
    styles = [(c.name, draw.choice(c.styles)) for c in draw.sample(several, len(several) // 3)]
    counted = draw.sample(names, len(names) // 2)
    counts = [(2 + i % 4, name) for i, name in enumerate(counted)]
    words = draw.sample(WORDS, len(WORDS) // 10)
    return {"pairs": pairs, "styles": sorted(styles), "counts": sorted(counts), "words": sorted(words)}


def main() -> None:
    """Draws the lists of a world and writes them in a readable order."""
    parser = argparse.ArgumentParser(description="Writes what is held out of training.")
    parser.add_argument("world", choices=("first", "whole"))
    world = parser.parse_args().world
    rows = {"first": first, "whole": whole}[world]()
    text = ",\n".join(
        f'"{key}": [\n' + ",\n".join("  " + json.dumps(row) for row in value) + "\n]" for key, value in rows.items()
    )
    file = FOLDER / f"held_out_{world}.json"
    with file.open("x", encoding="utf-8") as open_file:
        open_file.write("{\n" + text + "\n}\n")
    print(f"{', '.join(f'{len(value)} {key}' for key, value in rows.items())} in {file}")


if __name__ == "__main__":
    main()
