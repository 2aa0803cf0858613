"""Writes an opt-in pack of sprites: python scripts/add_sprites.py --source twemoji|openmoji|tuxpaint --out FOLDER

    twemoji   the concepts of the package as Twemoji draws them (CC BY 4.0), from npm's @iconify-json/twemoji
    openmoji  the same by OpenMoji (CC BY-SA 4.0), from npm's @iconify-json/openmoji
    tuxpaint  photographs: the stamps of Tux Paint (GPL-2+ and public domain), from Debian's tuxpaint-stamps-default

The folder gets concepts.csv, a folder of WebP per style and LICENCE.txt, in the form that `read_concepts` reads; that
of the stamps also Debian's file `copyright`, which names the author and the licence of each. Packs are never part of
the package: their licences ask for credit, or for the same licence, of what is made from them.
Vectors need `pip install resvg-py`; the stamps need a Debian whose apt-get and dpkg-deb can fetch them.
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from make_sprites import QUALITY, Draw, encode_webp, fetch, fit_sprite, vector_drawer, write_table
from PIL import Image

from dalle3_jax.data.scenes.concepts import COLUMNS, CONCEPTS, Concept
from dalle3_jax.files import write_whole

ICONS = {"twemoji": "@iconify-json/twemoji@1.2.5", "openmoji": "@iconify-json/openmoji@1.2.29"}
STAMPS = "tuxpaint-stamps-default"
LICENCES = {
    "twemoji": "Twemoji graphics: Copyright Twitter, Inc and other contributors, CC BY 4.0\n"
    "https://creativecommons.org/licenses/by/4.0/\n",
    "openmoji": "OpenMoji graphics: Copyright the OpenMoji authors (openmoji.org), CC BY-SA 4.0\n"
    "https://creativecommons.org/licenses/by-sa/4.0/\n",
    "tuxpaint": "Tux Paint stamps: Copyright the Tux Paint developers and contributors.\n"
    "GPL-2 or later, some in the public domain: the file copyright beside this one names each.\n"
    "https://tuxpaint.org/stamps/\n",
}
DISTINCT = 0.35  # of the pixels of a photograph at least this share has a colour of its own; drawings have less


def icons(source: str, scratch: Path) -> Iterator[tuple[Concept, Image.Image]]:
    """The package's concepts that an Iconify package draws."""
    fetch(scratch, (ICONS[source],))
    draw: Draw = vector_drawer(scratch / f"@iconify-json_{source}/package")
    for concept in CONCEPTS:
        if (image := draw(concept.code)) is not None:
            yield replace(concept, styles=(source,), tints=()), image


def stamps(scratch: Path) -> Iterator[tuple[Concept, Image.Image]]:
    """The photographs with a clear ground among Tux Paint's stamps, named by the first line of the text beside each."""
    subprocess.run(["apt-get", "download", STAMPS], cwd=scratch, check=True)
    (archive,) = scratch.glob("*.deb")
    subprocess.run(["dpkg-deb", "--extract", archive.name, "."], cwd=scratch, check=True)
    for path in sorted(scratch.rglob("stamps/**/*.png")):
        text = path.with_suffix(".txt")
        image = Image.open(path)
        if text.exists() and is_photograph(image) and (name := stamp_name(text.read_text(encoding="utf-8"))):
            yield Concept(name, plural(name), "", "an" if name[0] in "aeiou" else "a", ("photo",)), image


def is_photograph(image: Image.Image) -> bool:
    """Whether a picture has a clear ground and, like a photograph, hardly two pixels of one colour."""
    if image.mode != "RGBA":
        return False
    pixels = np.asarray(image)
    shown = pixels[pixels[..., 3] > 250, :3] @ np.array([1 << 16, 1 << 8, 1])
    return bool((pixels[..., 3] < 5).mean() > 0.05 and len(np.unique(shown)) > DISTINCT * len(shown) > 0)


def stamp_name(text: str) -> str:
    """The noun of a stamp: its first line without article and full stop; "" where that is no short plain name."""
    line = text.splitlines()[0] if text else ""
    named = re.fullmatch(r"an? ([a-z]+([ -][a-z]+){0,2})[.!]?", line.strip().lower())
    return named[1] if named else ""


def plural(name: str) -> str:
    """The plural: the package's own where it has the noun, else the regular one."""
    head, of, rest = name.partition(" of ")
    before, space, noun = head.rpartition(" ")
    known = {concept.name: concept.plural for concept in CONCEPTS}
    if noun in known:
        noun = known[noun]
    elif re.search(r"(s|x|ch|sh|z)$", noun):
        noun += "es"
    else:
        noun = re.sub(r"([^aeiou])y$", r"\1ie", noun) + "s"
    return before + space + noun + of + rest


def write(source: str, out: Path) -> int:
    """Writes the pack; how many concepts it has. Of several pictures with one name the first is kept."""
    rows: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        found = stamps(Path(scratch)) if source == "tuxpaint" else icons(source, Path(scratch))
        for concept, image in found:
            if concept.name in rows:
                continue
            (style,) = concept.styles
            (out / style).mkdir(parents=True, exist_ok=True)
            write_whole(out / style / f"{concept.file_stem}.webp", encode_webp(fit_sprite(image), QUALITY["3d"]))
            values = (concept.name, concept.plural, concept.article, concept.code, style, "")
            rows[concept.name] = dict(zip(COLUMNS, values, strict=True))
        if source == "tuxpaint":
            write_whole(out / "copyright", (Path(scratch) / "usr/share/doc" / STAMPS / "copyright").read_bytes())
    write_table(out / "concepts.csv", rows.values())
    write_whole(out / "LICENCE.txt", LICENCES[source].encode())
    return len(rows)


def main() -> None:
    """Reads the command line and writes one pack."""
    parser = argparse.ArgumentParser(description="Writes an opt-in pack of sprites.")
    parser.add_argument("--source", choices=LICENCES, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; better outside the repository")
    options = parser.parse_args()
    print(f"{write(options.source, options.out)} concepts in {options.out}")


if __name__ == "__main__":
    main()
