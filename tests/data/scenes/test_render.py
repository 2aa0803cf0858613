"""Pixels agree with labels."""

import numpy as np
import pytest

from dalle3_jax.data.scenes import FIRST, make_record, render_scene, sample_scene, world_of
from dalle3_jax.data.scenes.backgrounds import BACKGROUNDS, paint_background
from dalle3_jax.data.scenes.sprites import load_sprite


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 128), (96, 160)])
@pytest.mark.parametrize("world", [FIRST, world_of({"words": 0.0})], ids=["first", "whole"])
def test_a_picture_is_its_sprites_in_their_labelled_boxes_on_its_background(world, height, width):
    for index in range(60):
        row = make_record(world, 3, index, height, width)
        expected = paint_background(world.background(row.labels["background"]), height, width).astype(float)
        for shown in row.labels["objects"]:
            left, top, right, bottom = (
                round(f * side) for f, side in zip(shown["box"], (width, height) * 2, strict=True)
            )
            concept, style = world.concept(shown["concept"]), row.labels["style"]
            pixels = load_sprite(concept, style, right - left, shown["tint"]).astype(float)
            window = expected[top:bottom, left:right]
            window[:] = pixels[..., :3] + window * (1 - pixels[..., 3:] / 255)
        assert np.shape(row.image) == (height, width, 3)
        overlaps = 1 if world is FIRST else 2  # each rounds once more
        assert np.abs(np.asarray(row.image) - expected).max() <= 0.51 * overlaps


@pytest.mark.parametrize("concept", FIRST.concepts, ids=lambda concept: concept.name)
def test_sprites_fill_their_box_and_are_premultiplied(concept):
    pixels = load_sprite(concept, "3d", 64)
    covered = pixels[..., 3] > 8
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert max(height, width) >= 63
    assert abs(rows[0] - (63 - rows[-1])) <= 2
    assert abs(columns[0] - (63 - columns[-1])) <= 2
    assert (pixels[..., :3] <= pixels[..., 3:]).all()
    assert 0.15 < covered.mean() < 0.95


def test_backgrounds_are_far_apart():
    pictures = np.stack([paint_background(background, 64, 64) for background in BACKGROUNDS]).astype(float)
    assert len(BACKGROUNDS) >= 8
    distances = np.abs(pictures[:, None] - pictures[None]).mean((2, 3, 4)) + 255 * np.eye(len(pictures))
    assert distances.min() > 20


def test_sprites_are_far_apart():
    on_grey = np.stack(
        [
            load_sprite(c, "3d", 32)[..., :3] + 128 * (1 - load_sprite(c, "3d", 32)[..., 3:] / 255)
            for c in FIRST.concepts
        ]
    )
    distances = np.abs(on_grey[:, None] - on_grey[None]).mean((2, 3, 4)) + 255 * np.eye(len(on_grey))
    closest = np.unravel_index(distances.argmin(), distances.shape)
    assert distances.min() > 14, [FIRST.concepts[i].name for i in closest]


@pytest.mark.parametrize("background", BACKGROUNDS, ids=lambda background: background.name)
def test_a_background_is_the_same_place_at_every_size(background):
    small = paint_background(background, 64, 64).astype(float)
    large = paint_background(background, 256, 256).reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(small - large).mean() < 3
    assert paint_background(background, 64, 160).shape == (64, 160, 3)


def test_what_is_cached_cannot_be_spoilt():
    picture = render_scene(FIRST, sample_scene(FIRST, 0, 0), 64, 64)
    before = picture.copy()
    picture[:] = 0
    assert (render_scene(FIRST, sample_scene(FIRST, 0, 0), 64, 64) == before).all()
    with pytest.raises(ValueError, match="read-only"):
        paint_background(BACKGROUNDS[0], 64, 64)[:] = 0
