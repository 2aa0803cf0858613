"""What edits of drawn scenes come to: python -m scripts.edit_figures [--edits 12] [--out edits.png]

Pictures of two things on a background are drawn, those that the scene reader finds right are edited, and it reads what
came of that: so many edits in words, with 95 % intervals. Printed as one table:
  words       edits in words (thing, background, place): the whole of the new scene right, beside the old one's pixels;
              controls: the picture as it was, and the new prompt drawn by the same seed without the picture
  inpainting  the thing in the left half replaced: read there, outside untouched, the step across the mask's edge
  inversion   PSNR of a round trip through the noise, of latents and pixels, by steps
"""

import argparse
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dalle3_jax.evaluation.statistics import bootstrap
from dalle3_jax.evaluation.tables import markdown_table
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.batching import encode_edits
from dalle3_jax.pipeline.png import GeneratedImage, encode_png
from dalle3_jax.prompting.claims import Claims, parse_claims
from dalle3_jax.prompting.lexicon import Lexicon
from dalle3_jax.prompting.scene_lexicon import training_lexicon
from dalle3_jax.reading.scene_reader import Reader, SceneReading

THINGS = ("fox", "owl", "penguin", "frog", "pig", "elephant", "robot", "castle", "cactus", "apple", "umbrella", "train")
PLACES = ("beach", "meadow", "desert", "snow", "city")
ROUND_TRIPS = (10, 20, 50)
BATCH = 4
MOST_DRAWN = 12
KINDS = ("background", "thing", "place")
IsRight = Callable[[GeneratedImage, str], bool]


def main() -> None:
    """Draw, edit, read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=12, help="edits in words, of three kinds (default %(default)s)")
    parser.add_argument("--checkpoint", default="demo", help="a model of scenes (default %(default)s)")
    parser.add_argument("--out", default="edits.png", help="a sheet: a row for each picture (default %(default)s)")
    arguments = parser.parse_args()
    pipeline, reader = Pipeline.load(arguments.checkpoint), Reader.load()
    rows, sheet = measure_edits(pipeline, reader, -(-arguments.edits // len(KINDS)))
    print(markdown_table(("edit", "right", "remark"), rows))
    cells = [np.concatenate(row, axis=1) for row in sheet if len(row) == max(map(len, sheet))]
    Path(arguments.out).write_bytes(encode_png(Image.fromarray(np.concatenate(cells))))


def measure_edits(
    pipeline: Pipeline, reader: Reader, count: int, is_right: IsRight | None = None
) -> tuple[list[tuple], list[list[np.ndarray]]]:
    """The rows of the table, of `count` pictures that are right, and a row of pictures for each of these."""
    lexicon = scene_words(pipeline)
    is_right = is_right or functools.partial(shows, reader, lexicon)
    right, drawn = draw_right_pictures(pipeline, is_right, count)
    rows = [("drawn right", f"{len(right)} of {drawn}", "")]
    sheet = [[np.asarray(one.image)] for one in right]
    for kind in KINDS:
        rows.append(edit_in_words(pipeline, is_right, right, lexicon, kind, sheet))
    rows += inpaint_half(pipeline, reader, right, lexicon, sheet)
    return rows + round_trips(pipeline, right[:BATCH]), sheet


def scene_words(pipeline: Pipeline) -> Lexicon:
    """The words of the scenes that a model was trained on; ValueError for one of other data."""
    lexicon = training_lexicon(pipeline.release.training)
    if lexicon is None:
        raise ValueError("these figures are of models of scenes, and this one was trained on something else")
    return lexicon


def draw_right_pictures(pipeline: Pipeline, is_right: IsRight, count: int) -> tuple[list[GeneratedImage], int]:
    """The first `count` pictures that are right, and how many were drawn: at most MOST_DRAWN times as many."""
    right: list[GeneratedImage] = []
    drawn = 0
    while drawn < MOST_DRAWN * count and len(right) < count:
        batch = pipeline(scene_prompts(drawn, BATCH), upsample="none", batch_size=BATCH, seed=drawn)
        right += [one for one in batch if is_right(one, one.prompt)]
        drawn += BATCH
    if not right:
        raise ValueError(f"none of {drawn} pictures is right: this model is too weak for edits to be measured")
    return right[:count], drawn


def scene_prompts(first: int, count: int) -> list[str]:
    """Prompts of two things side by side: of all pairs of things, in steps that meet every place."""
    pairs = [*itertools.permutations(THINGS, 2)]
    chosen = [(*pairs[(35 * i) % len(pairs)], PLACES[i % len(PLACES)]) for i in range(first, first + count)]
    return [
        f"A picture of a {one} and a {other} in the {place}. The {one} is on the left and the {other} is on the right."
        for one, other, place in chosen
    ]


def shows(reader: Reader, lexicon: Lexicon, picture: GeneratedImage, prompt: str) -> bool:
    """Whether the reader finds what a prompt says: things, their number, which is left of which, the background."""
    [reading] = reader.read(np.asarray(picture.image)[None])
    wanted: Claims = parse_claims(prompt, lexicon)
    names = sorted(seen.concept for seen in reading.objects)
    asked = sorted(name for name, number in wanted.things.items() for _ in range(number))
    ordered = all(across(reading, one) < across(reading, other) for one, how, other in sides(wanted))
    return names == asked and reading.background in wanted.backgrounds and ordered


def sides(claims: Claims) -> list[tuple[str, str, str]]:
    """The relations of left and right."""
    return [(one[0], one[1], one[2]) for one in claims.relations if one[1] == "left of"]


def across(reading: SceneReading, name: str) -> float:
    """Where a thing stands, as a fraction of the width; the middle where it is not there."""
    return next((seen.x for seen in reading.objects if seen.concept == name), 0.5)


def instructions(picture: GeneratedImage, lexicon: Lexicon, kind: str) -> str:
    """An edit of this kind."""
    claims = parse_claims(picture.prompt, lexicon)
    first = next(iter(claims.things))
    if kind == "background":
        return f"make it the {PLACES[(PLACES.index(claims.backgrounds[0]) + 2) % len(PLACES)]}"
    if kind == "place":
        return f"move the {first} to the right"
    return f"replace the {first} with a {new_thing(claims)}"


def new_thing(claims: Claims) -> str:
    """A thing to stand in place of the first one, which is not there yet."""
    place = THINGS.index(next(iter(claims.things)))
    return next(thing for thing in THINGS[place + 5 :] + THINGS if thing not in claims.things)


def edit_in_words(pipeline, is_right, pictures: Sequence[GeneratedImage], lexicon, kind: str, sheet) -> tuple:
    """The row of one kind of edit in words; what was made joins the sheet."""
    edited = [pipeline.edit(one, instruction=instructions(one, lexicon, kind), batch_size=1)[0] for one in pictures]
    fresh = [pipeline(new.prompt, seed=new.seed, upsample="none", batch_size=1)[0] for new in edited]
    for row, picture in zip(sheet, edited, strict=True):
        row.append(np.asarray(picture.image))
    hits = np.array([is_right(new, new.prompt) for new in edited], float)
    rate = bootstrap(hits)
    controls = sum(is_right(new, new.prompt) for new in fresh)
    before = sum(is_right(old, new.prompt) for old, new in zip(pictures, edited, strict=True))
    near, far = (np.mean([distance(a, b) for a, b in zip(pictures, made, strict=True)]) for made in (edited, fresh))
    remark = f"as it was {before}, drawn anew {controls}; levels from the picture {near:.1f}, drawn anew {far:.1f}"
    return f"in words: {kind}", f"{hits.sum():.0f} of {len(hits)} ({rate.low:.0%} to {rate.high:.0%})", remark


def distance(one: GeneratedImage, other: GeneratedImage) -> float:
    """Mean absolute difference in levels."""
    return float(np.abs(np.asarray(one.image, np.float32) - np.asarray(other.image, np.float32)).mean())


def inpaint_half(pipeline, reader: Reader, pictures: Sequence[GeneratedImage], lexicon, sheet) -> list[tuple]:
    """The left half replaced: what is read there, what changed outside, and the step across the edge of the mask."""
    hits, changed, steps, usual = 0, 0, [], []
    for row, picture in zip(sheet, pictures, strict=True):
        pixels = np.asarray(picture.image)
        width, height = picture.image.size
        mask, edge = np.zeros((height, width), np.uint8), width // 2
        mask[:, :edge] = 255
        claims = parse_claims(picture.prompt, lexicon)
        first = next(iter(claims.things))
        new = new_thing(claims)
        [made] = pipeline.edit(picture, picture.prompt.replace(first, new), mask=mask, upsample="none", batch_size=1)
        result = np.asarray(made.image)
        row.append(result)
        [reading] = reader.read(result[None])
        hits += any(seen.concept == new and seen.x < 0.5 for seen in reading.objects)
        changed += int((result[mask == 0] != pixels[mask == 0]).sum())
        difference = np.abs(np.diff(result.astype(np.float32), axis=1)).mean((0, 2))
        steps.append(difference[edge - 1])
        usual.append(difference[edge // 2 : edge + edge // 2].mean())
    seam = f"step across the edge {np.mean(steps):.1f} levels, elsewhere {np.mean(usual):.1f}"
    seam = f"values changed outside {changed}; {seam}"
    return [("inpainting: thing in the left half", f"{hits} of {len(pictures)}", seam)]


def round_trips(pipeline: Pipeline, pictures: Sequence[GeneratedImage]) -> list[tuple]:
    """PSNR of what an inversion comes back to, against the VAE's own copy of the pictures."""
    rows = []
    images = np.stack([np.asarray(one.image) for one in pictures]).astype(np.float32) / 127.5 - 1
    copies = np.asarray(pipeline.codec.decode(pipeline.codec.encode(images)))
    for steps in ROUND_TRIPS:
        settings = {"steps": steps, "sampler": "ddim", "guidance_scale": 1.0, "strength": 1.0}
        requests = [pipeline.request(one.prompt, image=one, source_prompt=one.prompt, **settings) for one in pictures]
        condition = pipeline.prompts.get([one.prompt for one in pictures])
        edit = encode_edits(pipeline, requests)
        back = pipeline.codec.decode(pipeline.sample_latents(condition, condition, requests, edit=edit))
        psnr = 10 * np.log10(4 / np.mean((np.asarray(back) - copies) ** 2))
        rows.append((f"inversion: {steps} steps there and back", f"{psnr:.1f} dB", "of the VAE's own copy"))
    return rows


if __name__ == "__main__":
    main()
