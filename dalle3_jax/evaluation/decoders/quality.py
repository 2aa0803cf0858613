"""Measures decoders, from latents to images: what is lost of true pictures, and at which letters words break.

Latents come from true pictures, or from a base model; every decoder gets the same ones with the same seeds, and is
compared with the baseline picture by picture.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8, UInt32

from dalle3_jax.evaluation.checks import ImageReading, passes_all_checks
from dalle3_jax.evaluation.decoders import fidelity
from dalle3_jax.evaluation.prompts import Prompt
from dalle3_jax.evaluation.row_bars import Bar, hide_progress
from dalle3_jax.evaluation.statistics import Difference, Rate, bootstrap, paired_difference
from dalle3_jax.pipeline.png import to_pixels
from dalle3_jax.reading.scene_reader import Reader
from dalle3_jax.reading.word_reader import LetteredWord, WordReader, letter_size
from dalle3_jax.typing import Array, Float

Seeds = UInt32[np.ndarray, " b"]
Decode = Callable[[Float[np.ndarray, "b h w c"], Seeds], Float[Array, "b H W 3"] | Float[np.ndarray, "b H W 3"]]
"""(The UNet's latents, a seed an image) -> images in about [-1, 1]."""

BASELINE, TRUE = "vae", "true pictures"
SHOWN = 8  # pictures of each decoder that are kept to be looked at
BATCH = 8
SIZES = (0.0, 16.0, 20.0, 24.0, 28.0, 36.0, 48.0, np.inf)  # pixels: bounds of the bins of letters


@dataclass(frozen=True, eq=False)
class SourceLatents:
    """Latents of one source, and what is known of their pictures: the true ones, drawn words, or what prompts ask for.

    Row i of sources with words is the same scene i, in whatever size it is drawn.
    """

    source: str
    latents: Float[np.ndarray, "n h w c"]
    seeds: UInt32[np.ndarray, " n"]
    truths: UInt8[np.ndarray, "n H W 3"] | None = None
    words: Sequence[Sequence[LetteredWord]] = ()
    prompts: Sequence[Prompt] = ()


class ImageReaders(NamedTuple):
    """Who looks at the pictures; without one of them, what it would see is not measured."""

    words: WordReader | None = None
    scenes: Reader | None = None


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """Decoded copies of the first pictures of a source, and their measures one by one.

    `values` holds "psnr", "ssim" and "edges" of each picture, "words" (the share of its words read exactly) of each
    that has some, and "right" (whether it shows all that its prompt asks for), as far as they could be measured.
    `seconds` is what decoding takes a picture, None of the true ones.
    """

    seconds: float | None
    values: dict[str, np.ndarray]
    read: list[tuple[str, ...]]
    images: UInt8[np.ndarray, "k H W 3"]
    count: int


class Ratio(NamedTuple):
    """The ratio of the first mean to the second, with the bounds of its interval."""

    value: float
    low: float
    high: float


class DecoderRow(NamedTuple):
    """One decoder on one source: rates by measure, and how they differ from the baseline's on the same pictures.

    `words` is how many words the pictures have, `word_ratio` how many are read exactly for one of the baseline's; None
    without words, and where the baseline's are all misread.
    """

    pictures: int
    seconds: float | None
    words: int
    rates: dict[str, Rate]
    differences: dict[str, Difference]
    word_ratio: Ratio | None


class LetterBin(NamedTuple):
    """Letters of `low` up to below `high` pixels: their mean size, the words, and the share read exactly."""

    low: float
    high: float
    size: float
    words: int
    exact: Rate


def measure_decoders(
    rows: SourceLatents,
    decoders: Mapping[str, Decode],
    judges: ImageReaders,
    *,
    batch_size: int = BATCH,
    limits: Mapping[str, int] | None = None,
    bar: Bar = hide_progress,
) -> dict[str, DecodedImages]:
    """Measures of each decoder's images of the latents, by its label; and those of the true pictures themselves.

    `limits` are the most pictures that a slow decoder makes, the first ones; 0 leaves it out.
    """
    decoded = {}
    if rows.truths is not None:
        values, read = read_decoded_images(rows, rows.truths, judges)
        if values:
            decoded[TRUE] = DecodedImages(None, values, read, rows.truths[:SHOWN], len(rows.truths))
    for label, decode in decoders.items():
        count = min(len(rows.latents), (limits or {}).get(label, len(rows.latents)))
        if count:
            images, seconds = decode_batches(decode, rows, count, batch_size, bar, f"{rows.source}: {label}")
            values, read = read_decoded_images(rows, images, judges)
            decoded[label] = DecodedImages(seconds, fidelity_values(rows, images) | values, read, images[:SHOWN], count)
    return decoded


def decode_batches(
    decode: Decode, rows: SourceLatents, count: int, batch_size: int, bar: Bar = hide_progress, text: str = ""
) -> tuple[UInt8[np.ndarray, "k H W 3"], float]:
    """The first `count` pictures, and the median over batches of the seconds that decoding takes for each picture."""
    parts = list(index_batches(count, batch_size))
    np.asarray(decode(rows.latents[parts[0]], rows.seeds[parts[0]]))  # compiles
    made, seconds = [], []
    for part in bar(parts, text):
        begun = time.perf_counter()
        images = np.asarray(decode(rows.latents[part], rows.seeds[part]))
        seconds.append((time.perf_counter() - begun) / len(part))
        made.append(to_pixels(images))
    return np.concatenate(made)[:count], float(np.median(seconds))


def index_batches(count: int, size: int) -> Iterator[Int[np.ndarray, " b"]]:
    """The numbers below `count`, in batches; a short last one repeats its last, so that all run the same program."""
    size = min(size, count)
    for start in range(0, count, size):
        yield np.minimum(np.arange(start, start + size), count - 1)


def fidelity_values(rows: SourceLatents, images: UInt8[np.ndarray, "k H W 3"]) -> dict[str, np.ndarray]:
    """The fidelity to each of the first true pictures, by measure; nothing where there are none."""
    if rows.truths is None:
        return {}
    tests = {"psnr": fidelity.psnr, "ssim": fidelity.ssim, "edges": fidelity.edge_error}
    return {name: test(images, rows.truths[: len(images)]) for name, test in tests.items()}


def read_decoded_images(
    rows: SourceLatents, images: UInt8[np.ndarray, "k H W 3"], judges: ImageReaders
) -> tuple[dict[str, np.ndarray], list[tuple[str, ...]]]:
    """The judges' readings of the first pictures: "words" and "right", where there are any; and the words as read."""
    values: dict[str, np.ndarray] = {}
    read: list[tuple[str, ...]] = []
    wanted, prompts = rows.words[: len(images)], rows.prompts[: len(images)]
    if judges.words and any(wanted):
        read = [judges.words.read(image, words) for image, words in zip(images, wanted, strict=True)]
        values["words"] = np.array([np.mean(hits) for hits in map(exact_matches, read, wanted) if hits])
    if judges.scenes and prompts:
        frame, readings = (images.shape[1], images.shape[2]), judges.scenes.read(images)
        hits = [
            passes_all_checks(ImageReading(of, (), frame), prompt.labels)
            for of, prompt in zip(readings, prompts, strict=True)
        ]
        values["right"] = np.array(hits, np.float64)
    return values, read


def exact_matches(read: Sequence[str], expected: Sequence[LetteredWord]) -> list[bool]:
    """Whether each word is read as it was drawn, capitals included."""
    return [spelt == word.text for spelt, word in zip(read, expected, strict=True)]


def decoder_row(rows: SourceLatents, decoded: DecodedImages, baseline: DecodedImages) -> DecoderRow:
    """The rates of what became of a source, and their differences from the baseline's."""
    # The first pictures are the same ones, and so are those among them that have words.
    twins = {name: baseline.values[name][: len(own)] for name, own in decoded.values.items() if name in baseline.values}
    shorter = {name: decoded.values[name][: len(twin)] for name, twin in twins.items()}
    return DecoderRow(
        decoded.count,
        decoded.seconds,
        sum(map(len, rows.words[: decoded.count])) if "words" in decoded.values else 0,
        {name: bootstrap(own) for name, own in decoded.values.items()},
        {name: paired_difference(shorter[name], twin) for name, twin in twins.items()}
        if decoded is not baseline
        else {},
        bootstrap_ratio(shorter["words"], twins["words"]) if "words" in twins and decoded is not baseline else None,
    )


def bootstrap_ratio(
    a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"], *, seed: int = 0, samples: int = 2000, level: float = 0.95
) -> Ratio | None:
    """The mean of a through the mean of b, with its percentile bootstrap interval; None where b is all zero.

    Pictures are drawn again for both at once. Draws in which b is all zero are left out.
    """
    if not b.any():
        return None
    draws = np.random.default_rng(seed).integers(len(b), size=(samples, len(b)))
    over, under = a[draws].mean(1), b[draws].mean(1)
    low, high = np.quantile(over[under > 0] / under[under > 0], [(1 - level) / 2, (1 + level) / 2])
    return Ratio(float(a.mean() / b.mean()), float(low), float(high))


def by_letter_size(
    measured: Sequence[tuple[SourceLatents, Mapping[str, DecodedImages]]], bounds: Sequence[float] = SIZES
) -> dict[str, list[LetterBin]]:
    """Decoder -> bins of letter sizes, with the share of words read exactly in each; of sources with words.

    Intervals draw scenes again, each with all its words of the bin: the same scene in several sizes is one scene.
    """
    words: dict[str, list[tuple[int, float, bool]]] = defaultdict(list)
    for rows, by_label in measured:
        for label, decoded in by_label.items():
            for scene, (read, wanted) in enumerate(zip(decoded.read, rows.words, strict=False)):
                sizes = [letter_size(word, decoded.images.shape[1]) for word in wanted]
                words[label] += [(scene, *pair) for pair in zip(sizes, exact_matches(read, wanted), strict=True)]
    return {label: list(letter_bins(of, bounds)) for label, of in words.items()}


def letter_bins(words: Sequence[tuple[int, float, bool]], bounds: Sequence[float]) -> Iterator[LetterBin]:
    """The bins that hold any of the words, which are (scene, size of letters, whether read exactly)."""
    for low, high in pairwise(bounds):
        inside = [word for word in words if low <= word[1] < high]
        scenes: dict[int, list[bool]] = defaultdict(list)
        for scene, _, hit in inside:
            scenes[scene].append(hit)
        if inside:
            exact = bootstrap(np.array([np.mean(hits) for hits in scenes.values()]))
            yield LetterBin(low, high, float(np.mean([size for _, size, _ in inside])), len(inside), exact)


@dataclass(frozen=True)
class DecoderStudy:
    """All that was measured: of each source, what each decoder made; and why something was not."""

    settings: dict[str, Any]
    measured: list[tuple[SourceLatents, dict[str, DecodedImages]]]
    unmeasured: list[str]

    def rows(self) -> dict[str, dict[str, DecoderRow]]:
        """Source -> decoder -> rates."""
        return {
            rows.source: {label: decoder_row(rows, decoded, by_label[BASELINE]) for label, decoded in by_label.items()}
            for rows, by_label in self.measured
        }

    def bins_by_letter_size(self) -> dict[str, list[LetterBin]]:
        """Decoder -> words read exactly, by the size of their letters."""
        return by_letter_size([(rows, decoded) for rows, decoded in self.measured if any(rows.words)])

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values, down to the values of each picture and what was read in it."""
        values: dict[str, Any] = {"settings": self.settings, "unmeasured": self.unmeasured}
        values |= {"rates": to_json_values(self.rows()), "letters": to_json_values(self.bins_by_letter_size())}
        values["pictures"] = {
            rows.source: {
                label: to_json_values(decoded.values) | {"read": to_json_values(decoded.read)}
                for label, decoded in of.items()
            }
            for rows, of in self.measured
        }
        return values


def to_json_values(value: Any) -> Any:
    """Named tuples and mappings as JSON objects, arrays as lists, all the way down; what is infinite has no bound."""
    if isinstance(value, Mapping) or hasattr(value, "_asdict"):
        items = value.items() if isinstance(value, Mapping) else value._asdict().items()
        return {key: to_json_values(item) for key, item in items}
    if isinstance(value, list | tuple | np.ndarray):
        return [to_json_values(item) for item in value]
    if isinstance(value, float):  # numpy's float64 is one too
        return round(float(value), 6) if np.isfinite(value) else None
    return value
