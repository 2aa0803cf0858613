"""Edited images: what stays outside a mask, to the last level; where a canvas lies in its frame; sizes and borders."""

import numpy as np
import pytest
from PIL import Image

from dalle3_jax.pipeline.edit_settings import Borders, Edit, begin_step, canvas_size, outpaint_borders
from dalle3_jax.pipeline.edits import edit_rows, edited_mask, nearest_size, paste_edit, working_size
from dalle3_jax.pipeline.input_images import open_input_image, open_input_mask

SIZES = ((128, 128), (96, 176), (176, 96))


def edit_of(pixels, mask=None, **how) -> Edit:
    return Edit(open_input_image(pixels), None if mask is None else open_input_mask(mask), 1.0, **how)


def random_mask(rng, height, width):
    """Boxes, thin lines and loose pixels, hard or soft."""
    mask = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(1, 4)):
        (top, bottom), (left, right) = (sorted(rng.integers(0, side + 1, 2)) for side in (height, width))
        mask[top : bottom + 1, left : right + 1] = rng.integers(1, 256)
    mask[rng.integers(0, height, 3), rng.integers(0, width, 3)] = 255
    return mask


def test_outside_a_thousand_random_masks_not_one_level_changes():
    rng = np.random.default_rng(0)
    changed = 0
    for _ in range(1000):
        height, width = rng.integers(8, 40, 2)
        image, mask = rng.integers(0, 256, (height, width, 3), np.uint8), random_mask(rng, height, width)
        made = rng.integers(0, 256, (*8 * rng.integers(1, 6, 2), 3), np.uint8)
        result = paste_edit(edit_of(image, mask, feather=int(rng.integers(0, 6))), made)
        np.testing.assert_array_equal(result[mask == 0], image[mask == 0])
        changed += (result != image).any()
    assert changed > 990, "the test would not see that nothing is pasted"


def test_all_of_a_hard_mask_is_what_was_made_and_soft_edges_lie_inside():
    image, made = np.zeros((40, 48, 3), np.uint8), np.full((40, 48, 3), 200, np.uint8)
    mask = np.zeros((40, 48), np.uint8)
    mask[10:30, 8:40] = 255
    hard = paste_edit(edit_of(image, mask, feather=0), made)
    np.testing.assert_array_equal(hard[..., 1], np.where(mask > 0, 200, 0))
    soft = paste_edit(edit_of(image, mask, feather=3), made)
    np.testing.assert_array_equal(soft[20, 6:14, 0], [0, 0, 50, 100, 150, 200, 200, 200])
    assert (soft[mask > 0] > 0).all()


def test_a_mask_thinner_than_its_soft_edge_is_made_all_the_same():
    mask = np.zeros((16, 16), np.uint8)
    mask[8] = 255
    assert (edited_mask(edit_of(np.zeros((16, 16, 3), np.uint8), mask, feather=9))[8] == 255).all()


def test_a_soft_mask_is_no_harder_than_it_was_painted():
    mask = np.full((16, 16), 100, np.uint8)
    mask[:4] = 0
    assert edited_mask(edit_of(np.zeros((16, 16, 3), np.uint8), mask, feather=2)).max() == 100


def test_an_outpainted_image_stands_in_its_canvas_as_it_was():
    image = np.random.default_rng(1).integers(0, 256, (24, 16, 3), np.uint8)
    edit = edit_of(image, outpaint="8,0,3,5")
    assert canvas_size(edit) == (29, 27)
    result = paste_edit(edit, np.zeros((32, 32, 3), np.uint8))
    assert result.shape == (29, 27, 3)
    np.testing.assert_array_equal(result[:24, 8:24], image)
    assert (edited_mask(edit)[:, :4] == 255).all(), "the frame's own border is no edge of the mask"


@pytest.mark.parametrize(
    ("outpaint", "size", "borders"),
    [
        ("", (20, 30), (0, 0, 0, 0)),
        ("7", (20, 30), (7, 7, 7, 7)),
        ("1, 2,3,4", (20, 30), (1, 2, 3, 4)),
        ("16:9", (90, 90), (35, 0, 35, 0)),
        ("1:1", (20, 31), (0, 5, 0, 6)),
        ("9:16", (90, 90), (0, 35, 0, 35)),
    ],
)
def test_borders_are_what_outpaint_says(outpaint, size, borders):
    assert outpaint_borders(outpaint, size) == Borders(*borders)


def test_the_whole_canvas_of_a_mask_lies_in_its_frame_and_comes_back():
    """Down to a smaller frame of another shape, and back: smooth images change little, and by no shift."""
    rows, columns = np.mgrid[:96, :160]
    image = np.stack([rows + 20, columns, 255 - columns], -1).astype(np.uint8)
    mask = np.full((96, 160), 255, np.uint8)
    mask[0, 0] = 0
    edit = edit_of(image, mask, feather=0)
    images, _, _ = edit_rows([edit], (64, 64), 8)
    made = np.rint(images[0] * 127.5 + 127.5).astype(np.uint8)
    assert np.abs(paste_edit(edit, made).astype(int) - image).max() <= 3
    np.testing.assert_array_equal(made[0], made[12])  # the rest of the frame repeats the edge
    kept = edit_rows([edit], (96, 160), 8).images[0]
    np.testing.assert_array_equal(np.rint(kept * 127.5 + 127.5), image)


def test_an_image_without_a_mask_fills_its_frame():
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 20:108] = 255
    images, mask, cells = edit_rows([edit_of(image)], (32, 32), 8)
    np.testing.assert_array_equal(images, 1.0)
    assert (mask.min(), cells.min(), cells.shape) == (1.0, 1.0, (1, 4, 4, 1))


def test_a_cell_is_edited_where_any_of_its_pixels_is():
    mask = np.zeros((32, 32), np.uint8)
    mask[9, 23], mask[24:, :8] = 1, 255
    rows = edit_rows([edit_of(np.zeros((32, 32, 3), np.uint8), mask)], (32, 32), 8)
    expected = np.zeros((4, 4))
    expected[1, 2] = expected[3, 0] = 1
    np.testing.assert_array_equal(rows.cells[0, ..., 0], expected)
    np.testing.assert_array_equal(rows.mask[0, ..., 0], mask > 0)


def test_a_thin_mask_is_not_lost_where_the_image_is_made_smaller():
    mask = np.zeros((640, 640), np.uint8)
    mask[321, 321] = 255
    assert edit_rows([edit_of(np.zeros((640, 640, 3), np.uint8), mask)], (16, 16), 8).cells.sum() == 1


def test_sizes_are_of_the_nearest_shape_and_masked_images_keep_theirs_where_they_can():
    assert nearest_size((300, 600), SIZES) == (96, 176)
    assert nearest_size((600, 500), SIZES) == (128, 128)
    assert nearest_size((500, 500), ((64, 64), (512, 512))) == (512, 512)
    photo, small = np.zeros((400, 600, 3), np.uint8), np.zeros((100, 180, 3), np.uint8)
    assert working_size(edit_of(photo), SIZES, 8) == (96, 176)
    assert working_size(edit_of(small, outpaint="1,0,0,0"), SIZES, 8) == (104, 184)
    assert working_size(edit_of(photo, outpaint="1,0,0,0"), SIZES, 8) == (96, 176)


def test_a_loop_begins_later_the_less_is_to_change():
    image = open_input_image(np.zeros((8, 8, 3), np.uint8))
    assert [begin_step(Edit(image, strength=strength), 20) for strength in (1.0, 0.8, 0.31, 0.05)] == [0, 4, 14, 19]
    assert begin_step(Edit(), 20) == 0


def test_masks_are_white_or_transparent():
    alpha = np.full((8, 8, 4), 255, np.uint8)
    alpha[2, 3] = 0, 0, 0, 0
    alpha[2, 4, 3] = 155
    mask = open_input_mask(Image.fromarray(alpha)).pixels
    assert (mask[2, 3], mask[2, 4], mask.sum()) == (255, 100, 355)
    opaque = alpha.copy()
    opaque[..., 3] = 255
    np.testing.assert_array_equal(open_input_mask(opaque).pixels, np.where(alpha[..., 0] > 0, 255, 0))
