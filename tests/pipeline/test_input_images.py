"""Images from elsewhere: turned, in RGB of 8 bits, and one clear error for what cannot be enlarged."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dalle3_jax.pipeline.image_formats import METADATA_CHUNK
from dalle3_jax.pipeline.input_images import MOST_PIXELS, open_input_image, read_input_image
from dalle3_jax.pipeline.png import read_metadata

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def saved(tmp_path, image: Image.Image, name: str = "image.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_a_png_is_read_as_it_is(tmp_path):
    np.testing.assert_array_equal(read_input_image(saved(tmp_path, Image.fromarray(PIXELS))), PIXELS)


def test_an_image_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    path = saved(tmp_path, Image.fromarray(PIXELS), exif=exif)
    np.testing.assert_array_equal(read_input_image(path), np.rot90(PIXELS, -1))


def test_transparency_is_laid_over_white(tmp_path):
    alpha = np.full((5, 7, 1), 255, np.uint8)
    alpha[0, 0], alpha[0, 1] = 0, 51
    read = read_input_image(saved(tmp_path, Image.fromarray(np.concatenate([PIXELS, alpha], axis=2))))
    np.testing.assert_array_equal(read[0, 0], 255)
    np.testing.assert_allclose(read[0, 1], 0.2 * PIXELS[0, 1] + 0.8 * 255, atol=1)
    np.testing.assert_array_equal(read[1:], PIXELS[1:])


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    grey = np.array([[0, 128, 257, 65_535], [129, 256, 32_896, 65_406]], np.uint16)
    read = read_input_image(saved(tmp_path, Image.fromarray(grey)))
    np.testing.assert_array_equal(read[..., 0], [[0, 0, 1, 255], [1, 1, 128, 254]])
    np.testing.assert_array_equal(read[..., 0], read[..., 2])


def test_cmyk_is_converted(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK"), "image.jpg", quality=100)
    assert abs(read_input_image(path).astype(int) - (200, 30, 60)).max() < 8


def test_one_pixel_is_an_image(tmp_path):
    assert read_input_image(saved(tmp_path, Image.fromarray(PIXELS[:1, :1]))).shape == (1, 1, 3)


def test_a_photograph_with_previews_or_damaged_metadata_is_read(tmp_path):
    image = Image.new("RGB", (16, 16), (200, 30, 60))
    previews = [Image.new("RGB", (8, 8))] * 2
    for path in (
        saved(tmp_path, image, "previews.jpg", format="MPO", save_all=True, append_images=previews),
        saved(tmp_path, image, "damaged.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    ):
        assert abs(read_input_image(path).astype(int) - (200, 30, 60)).max() < 8, path.name


@pytest.mark.parametrize("name", ["image.png", "image.webp"])
def test_damaged_metadata_are_none_however_deep_they_are(tmp_path, name):
    nested, exif, texts = "[" * 20_000, Image.Exif(), PngInfo()
    exif[0x010E] = nested
    texts.add_text(METADATA_CHUNK, nested)
    options = {"pnginfo": texts} if name == "image.png" else {"exif": exif}
    path = saved(tmp_path, Image.fromarray(PIXELS), name, **options)
    assert open_input_image(path).metadata == {}
    with pytest.raises(ValueError, match=r"is damaged|does not say"):
        read_metadata(path)


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    stream = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(stream, "PNG")
    (tmp_path / "cut.png").write_bytes(stream.getvalue()[:-500])
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    Image.new("1", (4100, 4100)).save(tmp_path / "large.png")
    Image.fromarray(PIXELS).save(tmp_path / "image.bmp")
    for name, told in {
        "nowhere.png": "cannot read",
        "text.png": "is no image: use JPEG, PNG, WEBP",
        "cut.png": "cannot read",
        "moving.png": "is animated",
        "large.png": f"has 4100 x 4100 pixels: at most {MOST_PIXELS:,} are read",
        "image.bmp": "is no image",
    }.items():
        with pytest.raises(ValueError, match=name) as error:
            read_input_image(tmp_path / name)
        assert told in str(error.value)
