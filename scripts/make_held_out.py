"""Writes what is held out of training, once for each world: python scripts/make_held_out.py WORLD

first: about 10 % of the pairs of concepts, and every second concept on one background.
whole: about 5 % of the pairs, one of three styles for every third concept that has several, one number from two to five
for every second concept, and a tenth of the words.

Rounds of matchings spread the pairs: in each round every concept gets one partner that it must never meet.
Writing a list anew would leak what was held out into training: the script refuses to overwrite one.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "dalle3_jax/data/scenes"
Rows = dict[str, list[Any]]


def matchings(names: Sequence[str], rounds: int, draw: random.Random, *, disjoint: bool) -> list[tuple[str, str]]:
    """As many pairs as `rounds` matchings hold; `disjoint` ones, which few rounds can be, give every name the same."""
    pairs: set[tuple[str, str]] = set()
    wanted = rounds * (len(names) // 2)
    while len(pairs) < wanted:
        order = draw.sample(names, len(names))
        matching = {(min(pair), max(pair)) for pair in zip(order[::2], order[1::2], strict=False)}
        if not (disjoint and matching & pairs):
            pairs |= matching
    return sorted(pairs)[:wanted]


def first() -> Rows:
    """The lists of the first world."""
    from dalle3_jax.data.scenes import FIRST

    draw, names = random.Random(20240917), [c.name for c in FIRST.concepts]
    places = [b.name for b in FIRST.backgrounds]
    pairs = matchings(names, 5, draw, disjoint=True)  # 5 of 47 possible partners of each concept
    lonely = draw.sample(names, len(names) // 2)
    return {"pairs": pairs, "settings": sorted((name, places[i % len(places)]) for i, name in enumerate(lonely))}


def whole() -> Rows:
    """The lists of the whole world."""
    from dalle3_jax.data.scenes.concepts import CONCEPTS
    from dalle3_jax.data.scenes.worlds import WHOLE_CONCEPTS, WHOLE_WORDS, WORDS

    concepts, spelt = CONCEPTS[:WHOLE_CONCEPTS], WORDS[:WHOLE_WORDS]
    draw, names = random.Random(20261125), [c.name for c in concepts]
    pairs = matchings(names, len(names) // 20, draw, disjoint=False)
    several = [concept for concept in concepts if len(concept.styles) > 1]
    styles = [(c.name, draw.choice(c.styles)) for c in draw.sample(several, len(several) // 3)]
    counted = draw.sample(names, len(names) // 2)
    counts = [(2 + i % 4, name) for i, name in enumerate(counted)]
    words = draw.sample(spelt, len(spelt) // 10)
    return {"pairs": pairs, "styles": sorted(styles), "counts": sorted(counts), "words": sorted(words)}


LISTS = {"first": first, "whole": whole}


def format_lists(rows: Rows) -> str:
    """The lists in a readable order, one row a line."""
    blocks = (f'"{key}": [\n' + ",\n".join("  " + json.dumps(row) for row in rows[key]) + "\n]" for key in rows)
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def main() -> None:
    """Draws the lists of a world and writes them."""
    parser = argparse.ArgumentParser(description="Writes what is held out of training.")
    parser.add_argument("world", choices=LISTS)
    world = parser.parse_args().world
    file = FOLDER / f"held_out_{world}.json"
    with file.open("x", encoding="utf-8") as empty:
        empty.write("{}\n")  # the package reads the lists of its worlds when it is imported
    try:
        from dalle3_jax.files import write_whole

        rows = LISTS[world]()
        write_whole(file, format_lists(rows).encode())
    except BaseException:
        file.unlink()
        raise
    print(f"{', '.join(f'{len(value)} {key}' for key, value in rows.items())} in {file}")


if __name__ == "__main__":
    main()
