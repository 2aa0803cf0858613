"""Images that clients send, as files of a form or in base64: opened here, and refused before they cost anything."""

import base64
import io
import warnings
from typing import Any

from PIL import Image
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from dalle3_jax.pipeline.input_images import FORMATS, MOST_PIXELS, InputImage, open_input_image, open_input_mask
from dalle3_jax.serving.errors import ApiError

__all__ = ["decode_base64_image", "open_base64_input", "open_image", "open_input", "read_form", "transparent_part"]

MOST_FILES, MOST_FIELDS = 20, 100
FETCHES_NOTHING = "nothing is fetched from elsewhere, send the file itself"


async def read_form(request: Request) -> tuple[dict[str, str], dict[str, list[bytes]]]:
    """The fields of a form, the last of a name counts, and the contents of its files; `image[]` is `image`.

    Raises ApiError for a body that is no form, and where there is no room to keep it.
    """
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        raise ApiError(400, "the body must be multipart/form-data with a file `image`", param="image")
    try:
        async with request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS) as form:
            return await _split_form(form)
    except OSError as error:
        raise ApiError(503, f"the server cannot keep the files ({error.strerror}): try again later") from None


async def _split_form(form: FormData) -> tuple[dict[str, str], dict[str, list[bytes]]]:
    fields: dict[str, str] = {}
    files: dict[str, list[bytes]] = {}
    for name, value in form.multi_items():
        name = name.removesuffix("[]")
        if isinstance(value, UploadFile):
            files.setdefault(name, []).append(await value.read())
        elif name in ("image", "mask", "image_prompt"):
            raise ApiError(400, f"{name}: {FETCHES_NOTHING}", param=name, code="invalid_value")
        else:
            fields[name] = value
    return fields, files


def open_image(content: bytes, param: str) -> Image.Image:
    """The image of a file, decoded; ApiError that names the parameter for what is none, is damaged, or is too large."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is lower
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, and at most {MOST_PIXELS:,} are read")
        image.load()
    except Image.UnidentifiedImageError:
        raise ApiError(400, f"{param}: this is no image, send {', '.join(FORMATS)}", param=param) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ApiError(400, f"{param}: this image cannot be read ({error})", param=param) from None
    return image


def decode_base64_image(text: Any, param: str) -> Image.Image:
    """The image of base64, with or without a data URL's prefix; ApiError as `open_image`."""
    if not isinstance(text, str):
        raise ApiError(400, f"{param}: an image in base64 is needed", param=param)
    if text.startswith(("http://", "https://")):
        raise ApiError(400, f"{param}: {FETCHES_NOTHING}", param=param)
    try:
        content = base64.b64decode(text.partition("base64,")[2] or text, validate=True)
    except ValueError as error:
        raise ApiError(400, f"{param}: this is no base64 ({error})", param=param) from None
    return open_image(content, param)


def open_input(image: Any, param: str) -> InputImage:
    """The image, or the mask, as a request has it; ApiError for one that is animated and such."""
    try:
        return open_input_mask(image) if param == "mask" else open_input_image(image)
    except ValueError as error:
        raise ApiError(400, f"{param}: {error}", param=param) from None


def open_base64_input(text: Any, param: str) -> InputImage:
    """The image of base64 as a request has it; ApiError as both."""
    return open_input(decode_base64_image(text, param), param)


def transparent_part(image: Image.Image) -> Image.Image | None:
    """The image itself as a mask where it has pixels that can be seen through, as the API of dall-e-2 has it."""
    if not image.has_transparency_data:
        return None
    least, _ = image.convert("RGBA").getchannel("A").getextrema()
    return image if isinstance(least, int) and least < 255 else None
