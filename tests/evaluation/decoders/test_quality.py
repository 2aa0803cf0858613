"""Decoders whose worth is known are told apart, picture by picture; the latents here are the pictures themselves."""

import json
from collections.abc import Sequence
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from dalle3_jax.data.scenes import FIRST, render_scene
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import normalise_pixels
from dalle3_jax.evaluation.decoders import quality, quality_plots
from dalle3_jax.evaluation.decoders.quality import (
    TRUE,
    DecoderStudy,
    ImageReaders,
    Ratio,
    SourceLatents,
    bootstrap_ratio,
    by_letter_size,
    decoder_row,
    index_batches,
    measure_decoders,
)
from dalle3_jax.evaluation.suites import sample_prompts
from dalle3_jax.reading.word_reader import LetteredWord, WordReader, find_word_reader, record_words
from tests.evaluation.painter import NAMES, SIZE, Oracle

WORDED = {"of": "whole", "words": 1.0}


def perfect(latents: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    return latents


def blur(latents: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    return gaussian_filter(latents, 4.0, axes=(1, 2))


def ignorant(latents: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Noise of the seeds, whatever the latents."""
    return np.stack([np.random.default_rng(seed).uniform(-1, 1, latents.shape[1:]) for seed in seeds])


def source(name: str, truths: np.ndarray, words: Sequence[Sequence[LetteredWord]] = (), **known) -> SourceLatents:
    """A source whose latents are its true pictures."""
    return SourceLatents(
        name, normalise_pixels(truths), np.arange(len(truths), dtype=np.uint32), truths, words, **known
    )


def worded(count: int, side: int = 128) -> SourceLatents:
    """Scenes with words."""
    scenes = ScenesSource(WORDED, 1, side, side, split="held_out")
    records = [record for record in map(scenes.__getitem__, range(2 * count)) if record.labels["words"]][:count]
    truths = np.stack([record.image for record in records])
    return source(f"encoded, {side} px", truths, [record_words(record) for record in records])


def flat(count: int, *words: str) -> SourceLatents:
    """Grey pictures of other levels, each said to hold these words."""
    truths = np.stack([np.full((16, 16, 3), 40 + 10 * i, np.uint8) for i in range(count)])
    return source("flat", truths, [[LetteredWord(word, (0.0, 0.25, 1.0, 0.75)) for word in words]] * count)


def levels(*known: int) -> WordReader:
    """Reads "owl" in boxes of these levels, and "awl" in all others."""
    return WordReader("fake", lambda image: "owl" if image[0, 0, 0] in known else "awl")


NOBODY = ImageReaders()


@pytest.fixture(scope="module")
def judges() -> ImageReaders:
    found = find_word_reader()
    assert found, "the tests need the extra eval, which dev holds"
    return ImageReaders(found)


@pytest.fixture(scope="module")
def study(judges: ImageReaders) -> DecoderStudy:
    rows = worded(6)
    found = measure_decoders(rows, {"vae": blur, "perfect": perfect, "ignorant": ignorant}, judges, batch_size=4)
    settings = {"checkpoint": "", "seed": 1, "word_reader": "rapidocr", "batch_size": 4, "device": "cpu"}
    settings |= {"sources": "Scenes."}
    return DecoderStudy(settings, [(rows, found)], ["the refiner: there is none"])


def test_a_perfect_decoder_is_better_in_everything(study: DecoderStudy) -> None:
    [rows] = study.rows().values()
    better = rows["perfect"].differences
    assert better["psnr"].low > 10
    assert better["ssim"].low > 0.05
    assert better["edges"].high < -1
    assert better["words"].low > 0
    assert rows["perfect"].rates["ssim"].value == pytest.approx(1.0)
    assert rows["perfect"].rates["edges"].value == 0.0
    assert rows["perfect"].rates["words"] == rows[TRUE].rates["words"]
    assert rows["perfect"].rates["words"].value > 0.9
    assert rows["perfect"].words == sum(map(len, study.measured[0][0].words)) >= 6


def test_a_decoder_that_ignores_its_latents_reads_no_words(study: DecoderStudy) -> None:
    [rows] = study.rows().values()
    assert rows["ignorant"].rates["words"].value == 0.0
    assert rows["ignorant"].differences["psnr"].high < 0


def test_the_baseline_is_not_compared_with_itself(study: DecoderStudy) -> None:
    [rows] = study.rows().values()
    assert rows["vae"].differences == {}
    assert rows["vae"].word_ratio is None
    assert rows[TRUE].seconds is None
    assert set(rows[TRUE].rates) == {"words"}


def test_a_slow_decoder_is_paired_with_the_baseline_on_its_own_pictures() -> None:
    """Without its limit it would make the very pictures of the baseline: no difference, though the rates differ."""
    rows = flat(8, "owl")

    def darker(latents: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        return latents - 2 / 255 * seeds[:, None, None, None]

    judges = ImageReaders(levels(40, 49))
    found = measure_decoders(
        rows, {"vae": darker, "slow": darker, "none": darker}, judges, limits={"slow": 3, "none": 0}
    )
    assert list(found) == [TRUE, "vae", "slow"]
    slow = decoder_row(rows, found["slow"], found["vae"])
    assert (slow.pictures, slow.words) == (3, 3)
    assert slow.rates["psnr"].value > decoder_row(rows, found["vae"], found["vae"]).rates["psnr"].value + 3
    assert all(gap.value == gap.low == gap.high == 0 for gap in slow.differences.values())
    assert slow.word_ratio == Ratio(1.0, 1.0, 1.0)


def test_pictures_keep_their_order_in_batches_of_one_shape() -> None:
    rows, shapes = flat(5), []

    def seeded(latents: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        shapes.append((latents.shape, seeds.shape))
        return np.broadcast_to((seeds.astype(np.float32) / 127.5 - 1)[:, None, None, None], latents.shape)

    decoded = measure_decoders(rows, {"vae": seeded}, NOBODY, batch_size=2)["vae"]
    assert decoded.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert set(shapes) == {((2, 16, 16, 3), (2,))}
    errors = np.mean(np.square(rows.truths.astype(float) - decoded.images), (1, 2, 3))
    np.testing.assert_allclose(decoded.values["psnr"], 10 * np.log10(255**2 / errors))
    assert [part.tolist() for part in index_batches(5, 2)] == [[0, 1], [2, 3], [4, 4]]
    assert [part.tolist() for part in index_batches(3, 8)] == [[0, 1, 2]]


def test_the_time_is_of_a_picture_and_without_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, clock = [], [0.0]
    monkeypatch.setattr(quality, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def slow(latents: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        calls.append(len(latents))
        clock[0] += 5.0 if len(calls) == 1 else 0.08
        return latents

    decoded = measure_decoders(flat(4), {"vae": slow}, NOBODY, batch_size=4)["vae"]
    assert calls == [4, 4]
    assert decoded.seconds == pytest.approx(0.08 / 4)


def test_words_are_shares_of_the_pictures_that_have_some() -> None:
    box = (0.0, 0.25, 1.0, 0.75)
    wanted = [("owl", "awl"), (), ("owl",), ("awl",)]
    words = [[LetteredWord(text, box) for text in texts] for texts in wanted]
    rows = source("flat", flat(4).truths, words)
    found = measure_decoders(rows, {"vae": perfect}, ImageReaders(levels(40)))
    assert found["vae"].read == [("owl", "owl"), (), ("awl",), ("awl",)]
    assert found["vae"].values["words"].tolist() == [0.5, 0.0, 1.0]
    known = decoder_row(rows, found["vae"], found["vae"])
    assert (known.pictures, known.words, known.rates["words"].prompts) == (4, 4, 3)


def test_a_ratio_is_of_the_same_pictures_drawn_again() -> None:
    base = np.random.default_rng(0).integers(1, 4, 40) / 4
    twice = bootstrap_ratio(2 * base, base)
    assert twice == Ratio(2.0, 2.0, 2.0)  # pair by pair there is no doubt
    other = bootstrap_ratio(np.random.default_rng(1).permutation(2 * base), base)
    assert other.value == pytest.approx(2.0)
    assert other.low < 1.8 < 2.2 < other.high
    few, many = (bootstrap_ratio(np.tile([1.0, 0.5, 0.0, 1.0], n), np.tile([0.5, 0.5, 0.5, 0.0], n)) for n in (2, 50))
    assert few.high - few.low > many.high - many.low
    assert many.value == pytest.approx(2.5 / 1.5)
    assert many.low < many.value < many.high
    assert bootstrap_ratio(base, np.zeros(40)) is None


def test_prompts_are_judged_as_the_scene_reader_sees_the_pictures() -> None:
    prompts = sample_prompts(FIRST, 9)
    truths = np.stack([render_scene(FIRST, prompt.scene, *SIZE) for prompt in prompts])
    rows = SourceLatents("generated", normalise_pixels(truths), np.arange(9, dtype=np.uint32), prompts=prompts)
    decoders = {"vae": perfect, "mixed": lambda latents, seeds: np.where(seeds[:, None, None, None] < 3, latents, 0.0)}
    found = measure_decoders(rows, decoders, ImageReaders(None, Oracle(NAMES, {})))
    assert list(found) == ["vae", "mixed"]  # there is no truth
    assert found["vae"].values["right"].tolist() == [1.0] * 9
    assert found["mixed"].values["right"].tolist() == [1.0] * 3 + [0.0] * 6
    assert set(found["vae"].values) == {"right"}


def test_letters_are_binned_by_their_size_on_the_picture() -> None:
    """The same word in the upper half of pictures of 16 and 64 pixels: letters of 5.9 and 23.5."""
    measured = []
    for side in (16, 64):
        truths = np.stack([np.full((side, side, 3), level, np.uint8) for level in (40, 50, 60, 70)])
        rows = source(f"{side}", truths, [[LetteredWord("owl", (0.0, 0.0, 1.0, 0.5))]] * 4)
        known = levels(40, 50, 60) if side == 64 else levels(40)
        measured.append((rows, measure_decoders(rows, {"vae": perfect}, ImageReaders(known))))
    small, large = by_letter_size(measured, (0.0, 16.0, 48.0))["vae"]
    assert (small.low, small.high, small.words, small.exact.value) == (0, 16, 4, 0.25)
    assert (large.low, large.high, large.words, large.exact.value) == (16, 48, 4, 0.75)
    assert (small.size, large.size) == pytest.approx((8 / 1.36, 32 / 1.36))
    [both] = by_letter_size(measured, (0.0, 48.0))["vae"]
    assert (both.words, both.exact.prompts, both.exact.value) == (8, 4, 0.5)  # four scenes, each in two sizes


def test_the_report_is_json_and_says_everything_in_tables(study: DecoderStudy) -> None:
    values = json.loads(json.dumps(study.to_dict(), allow_nan=False))
    rates = values["rates"]["encoded, 128 px"]["perfect"]
    assert rates["rates"]["ssim"]["value"] == 1.0
    assert rates["differences"]["psnr"]["low"] > 0
    assert len(values["pictures"]["encoded, 128 px"]["perfect"]["psnr"]) == 6
    assert sum(one["words"] for one in values["letters"]["vae"]) == rates["words"]
    told = quality_plots.decoder_markdown(study)
    for line in ("## encoded, 128 px", "| true pictures |", "| ignorant ", "*", "## Not measured", "- the refiner:"):
        assert line in told


def test_plots_are_drawn_of_everything(study: DecoderStudy) -> None:
    [(source_name, rows)] = study.rows().items()
    for png in (
        quality_plots.letter_size_figure(study.bins_by_letter_size(), "letters"),
        quality_plots.measures_figure(rows, source_name),
    ):
        with Image.open(BytesIO(png)) as image:
            assert min(image.size) > 200


def test_the_zoom_shows_true_pixels_four_times_as_large(study: DecoderStudy) -> None:
    rows, found = study.measured[0]
    assert rows.truths is not None
    sheet = np.asarray(quality_plots.zoom_sheet(rows, found))
    corner = quality_plots.word_start_corner(rows.truths[0], rows.words[0][0])
    part = quality_plots.crop_window(rows.truths[0], corner).repeat(4, 0).repeat(4, 1)
    np.testing.assert_array_equal(sheet[14 : 14 + 192, 14 : 14 + 256], part)
    again = 14 + 2 * (256 + 14)  # true, vae, perfect
    np.testing.assert_array_equal(sheet[14 : 14 + 192, again : again + 256], part)
    assert sheet.shape[1] == 14 + 4 * (256 + 14)


def test_a_word_begins_where_its_sign_does_or_about_its_middle_on_a_banner() -> None:
    image = np.zeros((128, 128, 3), np.uint8)
    size = 20 / 128 * 1.36  # of a box around letters of 20 pixels
    sign, banner = ((0.25, 0.5, 0.75, 0.5 + size), (0.0, 0.5, 1.0, 0.5 + size))
    top = round((0.5 + size / 2) * 128) - 24
    assert quality_plots.word_start_corner(image, LetteredWord("MARKET", sign)) == (top, 32)
    assert quality_plots.word_start_corner(image, LetteredWord("owl", banner)) == (top, 64 - 18)


def test_the_busiest_window_has_most_edges_and_no_words() -> None:
    image = np.full((128, 128, 3), 90, np.uint8)
    image[80:100, 70:110] = np.random.default_rng(0).integers(256, size=(20, 40, 3))
    image[10:40] = np.random.default_rng(1).integers(256, size=(30, 128, 3))
    top, left = quality_plots.busiest_corner(image, [LetteredWord("owl", (0.0, 8 / 128, 1.0, 42 / 128))])
    assert top <= 80 < 100 <= top + 48
    assert left <= 70 < 110 <= left + 64
