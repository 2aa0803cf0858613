"""Pictures as cameras, editors and people leave them: what is decoded is what is seen, and what is bad says why."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from dalle3_jax.data.image_files import ORIENTATIONS, WHITE, drop_png_chunks, read_image_size
from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.transforms import decode_image

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8).repeat(8, 0).repeat(8, 1)
PHOTOGRAPH = Image.fromarray(PIXELS)  # 24 by 40


def file_of(image: Image.Image, form: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


def size_of(content: bytes, head: int = 64 * 1024) -> tuple[int, int] | None:
    return read_image_size(content[:head], lambda: content)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def insert_chunk(png: bytes, kind: bytes, content: bytes, *, before: bytes) -> bytes:
    place = png.index(before) - 4
    return png[:place] + chunk(kind, content) + png[place:]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_photographs_are_brought_upright_and_their_sizes_with_them(form, orientation):
    content = file_of(PHOTOGRAPH, form, exif=turned(orientation), lossless=True)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert (decode_image(content) == expected).all()
    assert expected.shape[:2] == ((40, 24) if orientation >= 5 else (24, 40)) == size_of(content)
    if orientation in ORIENTATIONS:
        assert not np.array_equal(expected, PIXELS)


def test_an_orientation_behind_the_pixels_or_in_xmp_is_read_too():
    plain, late = file_of(PHOTOGRAPH, "PNG"), turned(8).removeprefix(b"Exif\0\0")
    behind = insert_chunk(plain, b"eXIf", late, before=b"IEND")
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<rdf tiff:Orientation="6"/>'
    texts = [insert_chunk(plain, b"iTXt", xmp, before=place) for place in (b"IDAT", b"IEND")]
    for content in (behind, *texts):
        assert decode_image(content).shape[:2] == size_of(content) == (40, 24)
    assert (decode_image(behind) == np.rot90(PIXELS)).all()


def test_damaged_metadata_do_not_spoil_a_picture():
    for exif in (b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff", turned(77)):
        content = file_of(PHOTOGRAPH, "PNG", exif=exif)
        assert (decode_image(content) == PIXELS).all()
        assert size_of(content) == (24, 40)


def test_sizes_are_read_however_much_stands_before_them():
    info = PngInfo()
    info.add_text("prompt", "x" * 3000)
    segments = (b"\xff\xe2" + struct.pack(">H", 2000) + bytes(1998)) * 3
    jpeg = file_of(PHOTOGRAPH, "JPEG", exif=turned(6))
    for content, expected in (
        (file_of(PHOTOGRAPH, "PNG", pnginfo=info), (24, 40)),
        (jpeg[:2] + segments + jpeg[2:], (40, 24)),
        (file_of(PHOTOGRAPH, "WEBP", lossless=True, exif=turned(5)), (40, 24)),
        (file_of(PHOTOGRAPH, "GIF"), (24, 40)),
    ):
        assert size_of(content, head=300) == size_of(content) == expected
    read = []
    assert read_image_size(jpeg[:1000], lambda: read.append(1) or b"") == (40, 24)
    assert not read  # the head was enough
    assert size_of(jpeg[:60]) is size_of(b"") is size_of(b"nothing") is None


def test_what_lies_under_transparent_pixels_is_not_seen():
    alpha = np.zeros((24, 40), np.uint8)
    alpha[:, 20:] = 255
    alpha[:, 19] = 51
    layered = Image.fromarray(np.dstack([PIXELS, alpha]), "RGBA")
    for ground in (WHITE, (10, 20, 30)):
        seen = decode_image(file_of(layered, "PNG"), "", ground)
        assert (seen[:, 20:] == PIXELS[:, 20:]).all()
        assert (seen[:, :19] == ground).all()
        blended = np.round(PIXELS[:, 19] * 0.2 + np.array(ground) * 0.8)
        assert np.abs(seen[:, 19] - blended).max() <= 1
    colour = tuple(int(value) for value in PIXELS[0, 0])
    keyed = decode_image(file_of(PHOTOGRAPH, "PNG", transparency=colour))
    assert (keyed[:8, :8] == WHITE).all()
    assert (keyed[:8, 8:] == PIXELS[:8, 8:]).all()
    assert (decode_image(file_of(PHOTOGRAPH.convert("RGBA"), "PNG")) == PIXELS).all()


def test_a_photograph_with_further_pictures_in_its_file_is_the_first_of_them():
    content = file_of(PHOTOGRAPH, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))] * 2, exif=turned(3))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file_of(PHOTOGRAPH, "JPEG")))))
    assert np.abs(decode_image(content)[::-1, ::-1].astype(int) - expected).max() == 0
    moving = file_of(PHOTOGRAPH, "PNG", save_all=True, append_images=[PHOTOGRAPH.transpose(Image.Transpose.ROTATE_180)])
    with pytest.raises(BadRecord, match="animated"):
        decode_image(moving)


@pytest.mark.parametrize("place", [b"IDAT", b"IEND"])
def test_texts_of_any_length_leave_a_picture_good_and_its_orientation(place):
    png = file_of(PHOTOGRAPH, "PNG", exif=turned(6))
    packed = zlib.compress(bytes(2_000_000))
    for kind, content in (
        (b"iTXt", b"workflow\0\1\0\0\0" + packed),
        (b"zTXt", b"workflow\0\0" + packed),
        (b"iCCP", b"profile\0\0" + packed),
    ):
        long = insert_chunk(png, kind, content, before=place)
        assert (decode_image(long) == np.rot90(PIXELS, -1)).all()
        assert size_of(long) == (40, 24)
        with pytest.raises(BadRecord, match="truncated"):
            decode_image(long[: long.index(b"IDAT") + 40])


def test_printers_colours_become_those_of_screens():
    printed = file_of(PHOTOGRAPH.convert("CMYK"), "JPEG", quality=100, subsampling=0)
    assert np.abs(decode_image(printed).astype(int) - PIXELS).max() <= 4


@pytest.mark.parametrize(("size", "reason"), [((330, 10), "shape"), ((1, 33), "shape"), ((320, 10), ""), ((1, 32), "")])
def test_strips_are_bad_records_before_they_are_decoded(size, reason):
    content = file_of(Image.new("RGB", size), "PNG")
    if not reason:
        assert decode_image(content).shape == (size[1], size[0], 3)
        return
    with pytest.raises(BadRecord, match=rf"'k' \({reason}\).*{size[0]} x {size[1]}"):
        decode_image(content, "k")


def test_chunks_are_dropped_from_pngs_alone():
    png = file_of(PHOTOGRAPH, "PNG", exif=turned(6))
    assert drop_png_chunks(png, (b"tEXt",)) == png
    assert drop_png_chunks(png + b"more", (b"eXIf",)).endswith(b"more")
    assert len(drop_png_chunks(png, (b"eXIf",))) == len(png) - 12 - len(turned(6).removeprefix(b"Exif\0\0"))
    assert drop_png_chunks(b"\xff\xd8tEXt", (b"tEXt",)) == b"\xff\xd8tEXt"
