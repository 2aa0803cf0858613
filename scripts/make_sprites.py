"""Writes the sprites of the embedded dataset: python scripts/make_sprites.py [--source FOLDER]

They are Microsoft's Fluent emoji in 3D (MIT), 256-px WebP in the npm package @lobehub/fluent-emoji-3d. Each is cropped
to its content, fitted into 128 px and stored as WebP. Without --source the package is fetched with `npm pack`; the name
of each concept is checked against the emoji's label and tags in emojibase-data (MIT).
"""

import argparse
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

from PIL import Image

from dalle3_jax.data.scenes.concepts import CONCEPTS

SPRITES = Path(__file__).parents[1] / "dalle3_jax/data/scenes/sprites"
PACKAGES = ("@lobehub/fluent-emoji-3d@1.1.0", "emojibase-data@17.0.0")
SIZE = 128
VISIBLE = 8  # an alpha below this is the renderer's dust, not content


def fetch(folder: Path) -> None:
    """Unpacks the npm packages into `folder`, each in a folder of its own."""
    for package in PACKAGES:
        name = subprocess.run(
            ["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True
        )
        with tarfile.open(folder / name.stdout.strip()) as archive:
            archive.extractall(folder / package.rpartition("@")[0].replace("/", "_"), filter="data")


def sprite(path: Path) -> Image.Image:
    """The picture cropped to what is visible, its longer side SIZE pixels."""
    image = Image.open(path).convert("RGBA")
    image = image.crop(image.getchannel("A").point([255 * (alpha >= VISIBLE) for alpha in range(256)]).getbbox())
    scale = SIZE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    # Pillow resizes RGBA straight; premultiplied it keeps the colour of hidden pixels out of the edge.
    return image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def words(folder: Path) -> dict[str, str]:
    """Everything that emojibase calls each emoji: code points without fe0f -> label and tags."""
    rows = json.loads((folder / "emojibase-data/package/en/data.json").read_text())
    return {row["hexcode"].lower(): " ".join([row["label"].lower(), *row.get("tags", ())]) for row in rows}


def main() -> None:
    """Reads the packages and writes one WebP per concept."""
    parser = argparse.ArgumentParser(description="Writes the sprites of the embedded dataset.")
    parser.add_argument("--source", type=Path, help="folder with the unpacked npm packages")
    source = parser.parse_args().source
    with tempfile.TemporaryDirectory() as scratch:
        folder = source or Path(scratch)
        if source is None:
            fetch(folder)
        called = words(folder)
        SPRITES.mkdir(exist_ok=True)
        for concept in CONCEPTS:
            if concept.name not in called[concept.code.removesuffix("-fe0f")]:
                print(f"{concept.name}: emojibase says {called[concept.code.removesuffix('-fe0f')]!r}")
            picture = sprite(folder / f"@lobehub_fluent-emoji-3d/package/assets/{concept.code}.webp")
            picture.save(SPRITES / f"{concept.file}.webp", quality=92, alpha_quality=100, method=6)
    total = sum(path.stat().st_size for path in SPRITES.glob("*.webp"))
    print(f"{len(CONCEPTS)} sprites, {total / 1000:.0f} kB in {SPRITES}")


if __name__ == "__main__":
    main()
