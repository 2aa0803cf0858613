"""model.json: what a release says about itself, sealed with its own SHA-256."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from dalle3_jax.checkpoints.int8 import INT8
from dalle3_jax.checkpoints.weights import sha256

__all__ = ["format_version", "is_release", "read_record", "seal_record"]

FORMAT_VERSION, INT8_VERSION, SAMPLING_VERSION = VERSIONS = 1, 2, 3
"""Of a release, of one with a component in 8 bits, and of one whose samplers clip or rescale another output than v:
readers that know only those before refuse it by its version. Some of versions 1 and 2 say of either too, from before it
had its own."""
DIFFUSION = ("schedule", "prediction", "spacing", "clipping", "guidance_rescale_of")
"""The keys that the section `diffusion` may have. Readers refuse any other, so that a new one needs no new version."""
FIELDS = {
    "format_version": int,
    "components": dict,
    "latent": (dict, type(None)),
    "diffusion": dict,
    "text": dict,
    "sizes": list,
    "sampling": dict,
    "training": dict,
    "tokenizer": (dict, type(None)),
    "sha256": str,
}
OPTIONAL = {"decoders": dict, "upscaler": dict}  # of the record; releases of before, and those without, have none
COMPONENT = {"class": str, "fields": dict, "parameters": int, "dtype": str, "files": dict}


def is_release(folder: Path) -> bool:
    """Whether a folder is a release, good or damaged: it has a model.json."""
    return (folder / "model.json").is_file()


def format_version(components: Mapping[str, Mapping[str, Any]], diffusion: Mapping[str, Any]) -> int:
    """The lowest version whose readers can read a release of these components and this section `diffusion`.

    ValueError for a key of the section that none could.
    """
    if unknown := _unknown_diffusion(diffusion):
        raise ValueError(f"a release's diffusion has no {', '.join(unknown)}: it has {', '.join(DIFFUSION)}")
    if "clipping" in diffusion or diffusion.get("guidance_rescale_of", "v") != "v":
        return SAMPLING_VERSION
    return INT8_VERSION if _int8(components) else FORMAT_VERSION


def seal_record(content: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the SHA-256 of its other fields; what JSON cannot hold raises ValueError."""
    try:
        return {**content, "sha256": _digest(content)}
    except (TypeError, ValueError) as error:
        raise ValueError(f"a release describes itself in plain values only: {error}") from None


def read_record(folder: Path) -> dict[str, Any]:
    """The content of the release's model.json; ValueError when it is missing, damaged, or of a newer version."""
    path = folder / "model.json"
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"no release in {folder}: it has no model.json; give the folder of a release") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}; copy or export the release again") from None
    if errors := _record_errors(record):
        raise ValueError(f"{path} is damaged: {'; '.join(errors)}; copy or export the release again")
    if unknown := _unknown_diffusion(record["diffusion"]):
        raise ValueError(
            f"{path} was made by a newer version of dalle3_jax: its diffusion has {', '.join(unknown)}, which this one "
            "does not know and would not sample by; upgrade dalle3_jax"
        )
    return record


def _unknown_diffusion(diffusion: Mapping[str, Any]) -> list[str]:
    """The keys of a section `diffusion` that mean nothing here."""
    return sorted(set(diffusion) - set(DIFFUSION))


def _record_errors(record: Any) -> list[str]:
    """Everything that keeps the record from being used; the version first, since it decides all the rest."""
    if not isinstance(record, dict):
        return ["it is not an object"]
    version = record.get("format_version")
    if version not in VERSIONS:
        known = f"{', '.join(map(str, VERSIONS[:-1]))} and {VERSIONS[-1]}"
        return [f"format_version is {version!r} and this dalle3_jax reads {known} (upgrade it if it is older)"]
    errors = _field_errors("", record, {**FIELDS, **{name: kind for name, kind in OPTIONAL.items() if name in record}})
    if not errors and _digest({key: value for key, value in record.items() if key != "sha256"}) != record["sha256"]:
        errors.append("its content does not match its own sha256")
    if errors:
        return errors
    for name, part in record["components"].items():
        errors += _field_errors(f"components.{name}", part, COMPONENT)
        errors += [f"{file!r} is no plain file name" for file in part.get("files", ()) if PurePath(file).name != file]
    if not errors and version < INT8_VERSION and (names := _int8(record["components"])):
        errors.append(f"{', '.join(names)} in int8, which format_version {version} has not")
    return errors


def _int8(components: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The components that are stored in 8 bits."""
    return [name for name, part in components.items() if part["dtype"] == INT8.name]


def _field_errors(where: str, value: Any, fields: Mapping[str, Any]) -> list[str]:
    """Errors where an object differs from the fields that it should have."""
    if not isinstance(value, dict):
        return [f"{where} is not an object"]
    errors = [f"{where} lacks {name}".strip() for name in fields if name not in value]
    errors += [f"{where} has an unknown field {name!r}".strip() for name in value if name not in fields]
    return errors + [
        f"{where} {name} is a {type(value[name]).__name__}".strip()
        for name, kind in fields.items()
        if name in value and not isinstance(value[name], kind)
    ]


def _digest(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
