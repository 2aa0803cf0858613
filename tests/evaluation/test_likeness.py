"""Sets of pictures against true ones: copies show, training records are searched in blocks, and others are refused."""

import numpy as np
import pytest

from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import decode_image
from dalle3_jax.evaluation.likeness import BLOCK, LEAST, TrueSources, find_true_sources, measure_likeness
from dalle3_jax.models.scene_reader import SceneReader
from dalle3_jax.reading.scene_reader import Reader

SIZE = (32, 32)
TRAINED = {"config": {"data": {"source": "scenes", "world": "first", "latents": 3 * LEAST}}}


class Eye(Reader):
    """Sees the mean colours of a picture's quarters, and how many pictures it is given at a time."""

    most = 0

    def features(self, images):
        Eye.most = max(Eye.most, len(images))
        return images.reshape(len(images), 2, 16, 2, 16, 3).mean((2, 4)).reshape(len(images), -1)


def silent(rows, text):
    return rows


def first(source: ScenesSource, count: int) -> list[np.ndarray]:
    return [decode_image(source[index].image) for index in range(count)]


@pytest.fixture(scope="module")
def trained() -> TrueSources:
    return find_true_sources(TRAINED, "first", SIZE)


@pytest.fixture
def eye() -> Eye:
    return Eye(SceneReader((), (), (), ()), {})


def test_a_model_that_shows_its_training_pictures_is_found_out(trained: TrueSources, eye: Eye) -> None:
    true = first(trained.held_out, 2 * LEAST)[LEAST:]
    copied, sheet = measure_likeness(eye, first(trained.training, LEAST), true, trained, 2 * LEAST, silent)
    assert copied.copying.nearer.value == 1.0
    assert copied.copying.generated_median == 0.0
    assert sheet.width > 8 * 160
    honest, _ = measure_likeness(eye, true, true, trained, 2 * LEAST, silent)
    assert "200 of 300 training records were searched" in honest.markdown()
    assert honest.copying.nearer.value < 0.1
    assert honest.model == honest.true


def test_no_more_is_searched_than_was_trained_on_a_block_at_a_time(trained: TrueSources, eye: Eye) -> None:
    true = first(trained.held_out, LEAST)
    Eye.most = 0
    every, _ = measure_likeness(eye, true, true, trained, 9 * LEAST, silent)
    assert "300 of 300 training records were searched" in every.markdown()
    assert "| true scenes of the same prompts |" in every.markdown()
    assert Eye.most == BLOCK < 3 * LEAST


def test_what_was_never_shown_in_training_is_as_many_records_as_pictures_on_the_fly() -> None:
    assert find_true_sources({"config": {"data": {"world": "first"}}, "images": 4800}, "first", SIZE).records == 4800
    assert find_true_sources(TRAINED, "first", SIZE).training == ScenesSource("first", 0, *SIZE)


@pytest.mark.parametrize(
    ("training", "world", "message"),
    [
        ({}, "first", "does not say that it was trained on scenes"),
        ({"config": {"data": {"source": "/data/coco"}}}, "first", "does not say that it was trained on scenes"),
        (TRAINED, "whole", "do not fit 32x32"),
    ],
)
def test_models_without_true_pictures_are_refused(training: dict, world: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_true_sources(training, world, SIZE)


def test_too_few_pictures_are_refused(trained: TrueSources, eye: Eye) -> None:
    few = first(trained.held_out, 3)
    with pytest.raises(ValueError, match=r"3 square pictures .* at least 100"):
        measure_likeness(eye, few, few, trained, LEAST, silent)
    with pytest.raises(ValueError, match="0 training records"):
        measure_likeness(eye, 40 * few, 40 * few, trained._replace(records=0), LEAST, silent)
