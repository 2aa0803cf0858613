"""Files of generated images in every format: the same metadata comes back, and other tools find theirs."""

import pytest
from PIL import Image

from dalle3_jax.pipeline.album import Album, expand_names
from dalle3_jax.pipeline.image_formats import encode_image
from dalle3_jax.pipeline.png import GeneratedImage, a1111_parameters, read_metadata
from dalle3_jax.pipeline.request import make_request, request_from_metadata

DIGEST = "0" * 64


def request(prompt='caf\xe9 \u732b, a "cat" \U0001f408', **settings):
    return make_request(prompt, {"size": (16, 24), "seed": 7, **settings})


def generated(**settings):
    return GeneratedImage(Image.new("RGB", (24, 16), (200, 10, 10)), request(**settings), DIGEST, 1)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpeg", ".JPG"])
def test_every_format_says_how_the_image_was_made(tmp_path, suffix):
    image = generated(negative_prompt="snow\nSteps: 3")
    image.save(tmp_path / f"x{suffix}")
    metadata = read_metadata(tmp_path / f"x{suffix}")
    assert metadata == image.metadata
    assert request_from_metadata(metadata) == image.request
    assert b"trainedAlgorithmicMedia" in (tmp_path / f"x{suffix}").read_bytes()
    with Image.open(tmp_path / f"x{suffix}") as opened:
        assert opened.size == (24, 16)
        if suffix == ".png":
            assert opened.text["parameters"] == a1111_parameters(image.metadata)
        else:
            comment = opened.getexif().get_ifd(0x8769)[0x9286]
            assert comment == b"UNICODE\0" + a1111_parameters(image.metadata).encode("utf-16-be")


def test_what_has_no_room_and_what_is_no_format_is_refused(tmp_path):
    long = GeneratedImage(Image.new("RGB", (24, 16)), request("x" * 80_000), DIGEST, 1)
    with pytest.raises(ValueError, match="too long for a JPEG"):
        long.save(tmp_path / "x.jpg")
    long.save(tmp_path / "x.webp")
    assert read_metadata(tmp_path / "x.webp") == long.metadata
    with pytest.raises(ValueError, match=r"'\.gif': use \.png"):
        encode_image(long.image, long.texts, ".gif")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg")
    with pytest.raises(ValueError, match="does not say how it was made"):
        read_metadata(tmp_path / "photo.jpg")


def test_names_follow_a_template(tmp_path):
    requests = [request("a fox"), request("An Owl!", seed=8)]
    names = expand_names("{n:04d}", requests, DIGEST)
    assert list(names.values()) == ["0001", "0002"]
    ids = [one.identity(DIGEST)[:10] for one in requests]
    full = expand_names("{prompt} {seed} {id}", requests, DIGEST)
    assert list(full.values()) == [f"a-fox 7 {ids[0]}", f"an-owl 8 {ids[1]}"]
    album = Album(tmp_path, names=names, suffix=".webp")
    image = GeneratedImage(Image.new("RGB", (24, 16)), requests[1], DIGEST, 1)
    assert album.add(image) == tmp_path / "0002.webp"
    assert album.has(requests[1], DIGEST)
    assert not album.has(requests[0], DIGEST)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{n.__class__}", "it has the field"),
        ("{}", "it has the field"),
        ("{number}", "it has the field {number}"),
        ("{n", "its fields are"),
        ("{prompt:d}", "its fields are"),
        ("{seed}", "several images one name"),
        ("x", "several images one name"),
        ("../{n}", "no name of a file"),
        (".{n}", "no name of a file"),
        ("", "no name of a file"),
        ("{n:300d}", "no name of a file"),
    ],
)
def test_a_template_that_names_no_files_is_refused(template, message):
    with pytest.raises(ValueError, match="--name") as error:
        expand_names(template, [request("a fox"), request("a fox", guidance_scale=2.0)], DIGEST)
    assert message in str(error.value)
