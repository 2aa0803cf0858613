"""Writes the sprites of the embedded dataset: python scripts/make_sprites.py [--source FOLDER]

What there is to draw stands in sprites/concepts.csv (name, plural, article, code). This script draws every concept in
each style that has it and writes the columns `styles` and `tints`; run again, it writes the same files.

    3d    Microsoft's Fluent emoji in 3D (MIT), from the npm package @lobehub/fluent-emoji-3d
    flat  Microsoft's Fluent emoji, flat (MIT), from @iconify-json/fluent-emoji-flat
    noto  Google's Noto emoji (Apache-2.0), from @iconify-json/noto

Each picture is cropped to its content, fitted into 128 px and stored as WebP. Without --source the packages are fetched
with `npm pack`; the name of each concept is checked against the emoji's label and tags in emojibase-data (MIT).
It needs `pip install resvg-py`, which draws the vectors.
"""

import argparse
import csv
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from colorsys import hsv_to_rgb
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dalle3_jax.data.scenes.concepts import COLUMNS
from dalle3_jax.data.scenes.tints import (
    TINTS,
    apply_tint,
    dominant_tint,
    hue_weight,
    saturation_and_value,
    unpremultiply,
)
from dalle3_jax.files import write_whole

SPRITES = Path(__file__).parents[1] / "dalle3_jax/data/scenes/sprites"
PACKAGES = (
    "@lobehub/fluent-emoji-3d@1.1.0",
    "@iconify-json/fluent-emoji-flat@1.2.6",
    "@iconify-json/noto@1.2.9",
    "emojibase-data@17.0.0",
)
QUALITY = {"3d": 86, "flat": 80, "noto": 80}
SIZE = 128
VISIBLE = 8  # an alpha below this is the renderer's dust, not content

# Things that a tint makes something else, or nothing.
PLAIN = {
    *("axe", "burrito", "candy", "cucumber", "dollar bill", "grasshopper", "hamburger", "hot dog", "laptop", "lemon"),
    *("melon", "orangutan", "peach", "piece of sushi", "slice of pizza", "stack of pancakes", "steak", "stethoscope"),
    *("stop sign", "taco", "tangerine", "tin can"),
}

SHARE, RULING, CHANGE = 0.4, 0.75, 0.12  # what a hue must cover for a tint, and how far a tint must carry it

Draw = Callable[[str], Image.Image | None]
SpritePixels = UInt8[np.ndarray, "h w 4"]


def fetch(folder: Path, packages: tuple[str, ...]) -> None:
    """Unpacks the npm packages into `folder`, each in a folder of its own."""
    for package in packages:
        name = subprocess.run(
            ["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True
        )
        with tarfile.open(folder / name.stdout.strip()) as archive:
            archive.extractall(folder / package.rpartition("@")[0].replace("/", "_"), filter="data")


def bitmap_drawer(folder: Path) -> Draw:
    """Draws the emoji of a code from a folder of WebP files named by code."""

    def draw(code: str) -> Image.Image | None:
        path = folder / f"{code}.webp"
        return Image.open(path).convert("RGBA") if path.exists() else None

    return draw


def vector_drawer(folder: Path) -> Draw:
    """Draws the emoji of a code from an Iconify package: SVG bodies by name, names by code without fe0f."""
    from resvg_py import svg_to_bytes

    names = json.loads((folder / "chars.json").read_text())
    icons = json.loads((folder / "icons.json").read_text())

    def draw(code: str) -> Image.Image | None:
        icon = icons["icons"].get(names.get(code.removesuffix("-fe0f")))
        if icon is None:
            return None
        box = f"0 0 {icon.get('width', icons['width'])} {icon.get('height', icons['height'])}"
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{icon["body"]}</svg>'
        return Image.open(BytesIO(svg_to_bytes(svg_string=svg, width=2 * SIZE, height=2 * SIZE))).convert("RGBA")

    return draw


def fit_sprite(image: Image.Image) -> Image.Image:
    """The picture cropped to what is visible, its longer side SIZE pixels."""
    image = image.crop(image.getchannel("A").point([255 * (alpha >= VISIBLE) for alpha in range(256)]).getbbox())
    scale = SIZE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    # Pillow resizes RGBA straight; premultiplied it keeps the colour of hidden pixels out of the edge.
    return image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def encode_webp(image: Image.Image, quality: int) -> bytes:
    """The picture as WebP."""
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=quality, alpha_quality=90, method=6)
    return buffer.getvalue()


def common_tints(pictures: list[SpritePixels]) -> list[str]:
    """The tints that suit a thing in all its styles; fewer than three are none."""
    suiting = [suitable_tints(picture) for picture in pictures]
    names = [name for name in TINTS if all(name in names for names in suiting)]
    return names if len(names) >= 3 else []


def suitable_tints(picture: SpritePixels) -> set[str]:
    """The tints that one hue of a picture can take on and that then look like themselves, unlike the thing before.

    None when that hue covers less than SHARE of the picture or less than RULING of what is coloured in it.
    """
    natural = dominant_tint(picture)
    shown = picture[..., 3] > 127
    colours = unpremultiply(picture[shown])
    saturation, value = saturation_and_value(colours)
    coloured = (saturation > 0.25) & (value > 0.15)
    ruled = coloured & (hue_weight(colours, natural.hue) > 0.5)
    if ruled.mean() < SHARE or ruled.sum() < RULING * coloured.sum():
        return set()
    after = {
        name: unpremultiply(apply_tint(picture, natural, tint)[shown])[ruled].mean(0) for name, tint in TINTS.items()
    }
    before = colours[ruled].mean(0)
    return {
        name
        for name, colour in after.items()
        if nearest_tint(colour) == name != nearest_tint(before)
        and np.linalg.norm(oklab(colour) - oklab(before)) > CHANGE
    }


def nearest_tint(colour: np.ndarray) -> str:
    """The tint that is nearest to a colour."""
    wheel = {name: np.array(hsv_to_rgb(tint.hue / 360, *tint[1:])) for name, tint in TINTS.items()}
    return min(wheel, key=lambda name: float(np.linalg.norm(oklab(wheel[name]) - oklab(colour))))


def oklab(colour: np.ndarray) -> np.ndarray:
    """An sRGB colour in Oklab, where distances are what eyes see (bottosson.github.io/posts/oklab)."""
    linear = np.where(colour > 0.04045, ((colour + 0.055) / 1.055) ** 2.4, colour / 12.92)
    cones = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
    axes = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    return np.array(axes) @ np.cbrt(np.array(cones) @ linear)


def write_sprites(row: dict[str, str], draws: dict[str, Draw]) -> dict[str, str]:
    """Writes the sprites of a row; the row with its styles and tints."""
    pictures = {}
    for style, draw in draws.items():
        if (image := draw(row["code"])) is None:
            continue
        (SPRITES / style).mkdir(exist_ok=True)
        picture = fit_sprite(image)
        write_whole(SPRITES / style / f"{row['name'].replace(' ', '_')}.webp", encode_webp(picture, QUALITY[style]))
        pictures[style] = np.frombuffer(picture.convert("RGBa").tobytes(), np.uint8).reshape(*picture.size[::-1], 4)
    chosen = [] if row["name"] in PLAIN else common_tints(list(pictures.values()))
    return row | {"styles": " ".join(pictures), "tints": " ".join(chosen)}


def write_table(path: Path, rows: Iterable[dict[str, str]]) -> None:
    """Writes the rows as concepts.csv."""
    table = StringIO()
    writer = csv.DictWriter(table, list[str](COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, table.getvalue().encode())


def name_mismatches(rows: list[dict[str, str]], folder: Path) -> list[str]:
    """What emojibase calls each emoji that the table calls by none of those words."""
    known = {row["hexcode"].lower(): row for row in json.loads((folder / "en/data.json").read_text())}
    found = []
    for row in rows:
        emoji = known.get(row["code"]) or known[row["code"].removesuffix("-fe0f")]
        called = " ".join([emoji["label"].lower(), *emoji.get("tags", ())])
        if not any(word in called for word in row["name"].split() if len(word) > 2):
            found.append(f"{row['name']}: emojibase says {called!r}")
    return found


def main() -> None:
    """Reads the packages and the table; writes one WebP per concept and style, and the table."""
    parser = argparse.ArgumentParser(description="Writes the sprites of the embedded dataset.")
    parser.add_argument("--source", type=Path, help="folder with the unpacked npm packages")
    source = parser.parse_args().source
    with tempfile.TemporaryDirectory() as scratch:
        folder = source or Path(scratch)
        if source is None:
            fetch(folder, PACKAGES)
        draws = {
            "3d": bitmap_drawer(folder / "@lobehub_fluent-emoji-3d/package/assets"),
            "flat": vector_drawer(folder / "@iconify-json_fluent-emoji-flat/package"),
            "noto": vector_drawer(folder / "@iconify-json_noto/package"),
        }
        with (SPRITES / "concepts.csv").open(newline="") as file:
            rows = [write_sprites(row, draws) for row in csv.DictReader(file)]
        print(*name_mismatches(rows, folder / "emojibase-data/package"), sep="\n")
    write_table(SPRITES / "concepts.csv", rows)
    total = sum(path.stat().st_size for path in SPRITES.glob("*/*.webp"))
    print(
        f"{len(rows)} concepts, {sum(bool(row['tints']) for row in rows)} with tints, "
        f"{total / 1000:.0f} kB in {SPRITES}"
    )


if __name__ == "__main__":
    main()
