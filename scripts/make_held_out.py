"""Writes the held-out pairs of the first world, once: python scripts/make_held_out.py

About 10 % of the unordered pairs of concepts and 5 % of (concept, background), spread evenly: in each of five rounds
every concept gets one partner it must never meet, and every second concept one background. Writing the list anew would
leak what was held out into training: the script refuses to overwrite it.
"""

import json
import random
from pathlib import Path

from dalle3_jax.data.scenes.backgrounds import BACKGROUNDS
from dalle3_jax.data.scenes.concepts import CONCEPTS

FILE = Path(__file__).parents[1] / "dalle3_jax/data/scenes/held_out_first.json"
ROUNDS = 5  # 5 of 47 possible partners of each concept


def lines(rows: list[tuple[str, str]]) -> str:
    """A JSON list with one row a line."""
    return "[\n" + ",\n".join("  " + json.dumps(row) for row in rows) + "\n]"


def main() -> None:
    """Draws the pairs and writes them in a readable order."""
    draw = random.Random(20240917)
    names, places = [c.name for c in CONCEPTS], [b.name for b in BACKGROUNDS]
    pairs: set[tuple[str, str]] = set()
    while len(pairs) < ROUNDS * len(names) // 2:
        order = draw.sample(names, len(names))
        matching = {(min(pair), max(pair)) for pair in zip(order[::2], order[1::2], strict=True)}
        if not matching & pairs:
            pairs |= matching
    lonely = draw.sample(names, len(names) // 2)
    settings = sorted((name, places[i % len(places)]) for i, name in enumerate(lonely))
    rows = {"pairs": sorted(pairs), "settings": settings}
    text = ",\n".join(
        f'"{key}": [\n' + ",\n".join("  " + json.dumps(row) for row in value) + "\n]" for key, value in rows.items()
    )
    with FILE.open("x", encoding="utf-8") as file:
        file.write("{\n" + text + "\n}\n")
    print(f"{len(pairs)} pairs and {len(settings)} settings in {FILE}")


if __name__ == "__main__":
    main()
