"""The bodies of OpenAI's calls as pydantic models, with every setting of `SETTINGS` as a further field."""

import json
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from dalle3_jax.pipeline.request import SETTINGS, ordered_settings, shorten
from dalle3_jax.pipeline.revision import UPSAMPLING
from dalle3_jax.serving.errors import ApiError

__all__ = [
    "MOST_IMAGES",
    "MOST_PARTIAL",
    "MOST_PROMPT",
    "CommonFields",
    "Edits",
    "Generation",
    "Variations",
    "parse_body",
    "read_form_values",
]

MOST_IMAGES, MOST_PARTIAL, MOST_PROMPT = 10, 10, 32_000
OWN = ("prompt", "size", "original_prompt", "image", "mask", "image_prompt")
"""Settings that OpenAI's fields, files of a form, or nobody decide: no body names a file of this machine."""

Model = TypeVar("Model", bound=BaseModel)


class CommonFields(BaseModel):
    """The fields of all calls; unknown ones are ignored with a warning."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str | None = Field(None, max_length=200, description="any name, unless the server is strict")
    n: int | None = Field(None, ge=1, le=MOST_IMAGES, description="how many images (default 1)")
    size: str | None = Field(None, max_length=20, description="WIDTHxHEIGHT or auto; the nearest that there is")
    response_format: Literal["url", "b64_json"] | None = None
    user: str | None = Field(None, max_length=1000, description="ignored")
    output_format: Literal["png", "jpeg", "webp"] | None = Field(None, description="default png")
    output_compression: int | None = Field(None, ge=0, le=100, description="quality of jpeg and webp (default 95)")
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None = Field(
        None, description="number of steps, where steps does not say it"
    )
    background: Literal["auto", "opaque", "transparent"] | None = Field(None, description="opaque is all there is")
    moderation: Literal["auto", "low"] | None = Field(None, description="ignored")
    stream: bool | None = Field(None, description="answer with server-sent events")
    partial_images: int | None = Field(None, ge=0, le=MOST_PARTIAL, description="previews in the stream, an image")
    style: Literal["vivid", "natural"] | None = Field(None, description="ignored")
    input_fidelity: Literal["high", "low"] | None = Field(None, description="ignored: see strength")
    upsample: Literal[UPSAMPLING] | None = Field(None, description="how the prompt is revised")  # pyright: ignore
    batch_size: int | None = Field(None, ge=1, description="the size of its batch, for the same bits again")


class PromptFields(CommonFields):
    """The fields of calls with a prompt."""

    prompt: str = Field(min_length=1, max_length=MOST_PROMPT)
    image_prompt: str | None = Field(
        None, description="an image in base64 whose content the new one is to show too, where the model reads images"
    )


class EditFields(CommonFields):
    """The fields of calls that edit an image: one of both."""

    prompt: str | None = Field(None, min_length=1, max_length=MOST_PROMPT, description="all of the edited image")
    instruction: str | None = Field(
        None, min_length=1, max_length=2000, description="what is to become of it, as 'make it night'"
    )


class VariationFields(CommonFields):
    """The fields of calls whose image may say what it shows."""

    prompt: str | None = Field(
        None, max_length=MOST_PROMPT, description="left out: the one of the image's metadata, or what it shows"
    )
    by: Literal["description", "image"] | None = Field(
        None, description="image: prompted with the image itself, where the model reads images (default description)"
    )


def setting_fields() -> dict[str, Any]:
    """The fields of pydantic models for all settings, None where they are left out."""
    return {
        row.name: (row.type.annotation | None, Field(None, description=row.help))
        for row in ordered_settings()
        if row.name not in OWN
    }


Generation = create_model("Generation", __base__=PromptFields, **setting_fields())
"""The body of POST /v1/images/generations."""
Edits = create_model("Edits", __base__=EditFields, **setting_fields())
"""The fields of POST /v1/images/edits, besides its files."""
Variations = create_model("Variations", __base__=VariationFields, **setting_fields())
"""The fields of POST /v1/images/variations, besides its file."""


def parse_body(model: type[Model], values: Mapping[str, Any]) -> Model:
    """The fields of a body; ApiError that names the first that is wrong."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        param = str(first["loc"][0]) if first["loc"] else None
        given = "" if first["type"] == "missing" else f", not {shorten(ascii(first['input']))}"
        message = f"{param}: {first['msg'][0].lower()}{first['msg'][1:]}{given}"
        raise ApiError(400, message, param=param, code="missing_parameter" if not given else "invalid_value") from None


def read_form_values(values: Mapping[str, str]) -> dict[str, Any]:
    """The values of a form, which are all strings, as JSON has them where the setting is no text: "[0.2, 0.8]"."""
    read: dict[str, Any] = {}
    for name, value in values.items():
        read[name] = value
        if name in SETTINGS and SETTINGS[name].type.annotation is not str:
            try:
                read[name] = json.loads(value)
            except (ValueError, RecursionError):
                continue  # the model says what is wrong with it
    return read
