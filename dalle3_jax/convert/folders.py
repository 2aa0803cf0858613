"""Which files of a folder hold a network's weights, and the small JSON files beside them; no tensor is read here.

The names are those of diffusers and transformers: `diffusion_pytorch_model` or `model`, a variant such as `.fp16`, and
`.safetensors`; or numbered shards of that, with an index `model.safetensors.index[.fp16].json` that says which tensor
is in which shard.
"""

import json
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from dalle3_jax.files import is_stray

__all__ = [
    "choose_variants",
    "class_name",
    "file_names",
    "no_weights_message",
    "read_index",
    "read_json",
    "weight_files",
    "weight_names",
]

STEMS = ("diffusion_pytorch_model", "model")
STEM = rf"(?P<stem>{'|'.join(STEMS)})"
SINGLE = re.compile(rf"{STEM}(\.(?P<variant>\w+))?\.safetensors", re.ASCII)
INDEX = re.compile(rf"{STEM}\.safetensors\.index(\.(?P<variant>\w+))?\.json", re.ASCII)
# The variant stands before the number, as transformers writes it, or behind, as diffusers does.
SHARD = re.compile(
    rf"{STEM}(\.(?P<variant>\w+))?-(?P<number>\d{{5}})-of-(?P<count>\d{{5}})(\.(?P<behind>\w+))?\.safetensors", re.ASCII
)
PLAIN = re.compile(r"\w[\w.-]*\.safetensors", re.ASCII)
UNSAFE = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pt2", ".msgpack", ".h5")
JSON_BYTES = 16 * 2**20
SHOWN = 8


def weight_names(names: Collection[str], variant: str | None = None) -> tuple[str | None, list[str]]:
    """The index, if there is one, and the weight files among the names of a folder.

    With an index its own list of shards counts, not the names returned here. Without a variant asked for, full
    precision is taken, then fp16, then the only other one. Of a single file and shards the single file is taken.
    ValueError when there are no such files, or not of that variant, or a shard without an index is missing.
    """
    if not (variants := _variants(names)):
        raise ValueError(no_weights_message(names))
    chosen = _choose_variant(variants, variant)
    return next(files for stem in STEMS if (files := _files_of_stem(names, stem, chosen)))


def choose_variants(parts: Mapping[str, Collection[str]], variant: str | None) -> dict[str, str | None]:
    """The variant that is taken of each of these {folder: names in it}: where only some have it, None of the others.

    A warning names those. Where none has it all are asked for it, so that reading them says what there is.
    """
    without = [part for part, names in parts.items() if variant not in _variants(names)]
    if variant is None or len(without) == len(parts):
        return dict.fromkeys(parts, variant)
    if without:
        message = f"{_abbreviate(without)} has no weights of variant {variant!r}; its others are taken"
        warnings.warn(message, stacklevel=3)
    return {part: None if part in without else variant for part in parts}


def no_weights_message(names: Collection[str]) -> str:
    """Why these files (paths, or names alone) are no weights that can be read, and what to do about it."""
    text = "there are no weights that can be read: they are called " + " or ".join(
        f"{stem}.safetensors" for stem in STEMS
    )
    if others := [name for name in names if name.endswith(".safetensors")]:
        text += f"; rename one of {_abbreviate(others)} if it holds this network alone"
    if unsafe := [name for name in names if PurePosixPath(name).suffix in UNSAFE]:
        text += (
            f"; {_abbreviate(unsafe)} can run code when opened, or need other frameworks, and are never read: "
            "get the same weights as safetensors, or make them on a machine you trust: load them there with "
            "transformers or diffusers and call save_pretrained(folder, safe_serialization=True)"
        )
    return text


def weight_files(folder: Path, variant: str | None = None) -> tuple[list[Path], dict[str, str] | None]:
    """The weight files of a network's folder and the index {tensor: file name}, or None where there is none.

    Raises ValueError as `weight_names` does, and when a shard that the index names is missing.
    """
    names = file_names(folder)
    try:
        index_name, files = weight_names(names, variant)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    if index_name is None:
        return [folder / name for name in files], None
    index = read_index(folder / index_name)
    files = sorted(set(index.values()))
    if missing := [name for name in files if name not in names]:
        raise ValueError(f"{folder} lacks {_abbreviate(missing)}, which {index_name} names; copy or download it again")
    return [folder / name for name in files], index


def file_names(folder: Path) -> set[str]:
    """The names of the files of a folder but for strays; ValueError where it cannot be read."""
    try:
        return {path.name for path in folder.iterdir() if path.is_file() and not is_stray(path.name)}
    except OSError as error:
        raise ValueError(f"cannot read the folder {folder}: {error.strerror}") from None


def read_json(path: Path, limit: int = JSON_BYTES) -> dict[str, Any]:
    """The object in a JSON file of at most `limit` bytes; ValueError naming the file when it is anything else."""
    try:
        if not path.is_file():  # a pipe would never end
            raise ValueError(f"there is no file {path}")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > limit:
        raise ValueError(f"{path} has more than {limit} bytes, too many for a file that describes a network")
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_reject_duplicate_keys)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON that can be trusted: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not an object")
    return content


def read_index(path: Path) -> dict[str, str]:
    """{tensor name: file name} of an index; ValueError unless all are plain names of safetensors files."""
    index = read_json(path).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise ValueError(f"{path} has no weight_map of tensors to files; copy or download it again")
    names = {str(name) for name in index.values() if not (isinstance(name, str) and PLAIN.fullmatch(name))}
    if names:
        raise ValueError(f"{path} names {_abbreviate(sorted(names))}: shards are plain names ending in .safetensors")
    return index


def class_name(config: Mapping[str, Any]) -> str:
    """The class that a config.json names: `_class_name` (diffusers), or the first of `architectures` (transformers)."""
    names = [config.get("_class_name")]
    if isinstance(architectures := config.get("architectures"), list):
        names += architectures[:1]
    for name in names:
        if isinstance(name, str) and name:
            return name
    raise ValueError("config.json names no class: it has neither _class_name nor architectures")


def _variants(names: Collection[str]) -> set[str]:
    """The variants of the weight files among these names, "" being full precision."""
    matches = [match for name in names for kind in (SINGLE, INDEX, SHARD) if (match := kind.fullmatch(name))]
    return {_variant_of(match) for match in matches}


def _variant_of(match: re.Match[str]) -> str:
    parts = match.groupdict()
    return parts["variant"] or parts.get("behind") or ""


def _choose_variant(variants: set[str], requested: str | None) -> str:
    """One of the variants that are there, "" being full precision."""
    order = [requested] if requested else ["", "fp16", *(variants if len(variants) == 1 else ())]
    if present := [variant for variant in order if variant in variants]:
        return present[0]
    there = _abbreviate(sorted(variant or "full precision" for variant in variants))
    if requested:
        raise ValueError(f"there are no weights of variant {requested!r}; there are {there}")
    raise ValueError(f"there are weights of several variants, none of them full precision; name one of {there}")


def _files_of_stem(names: Collection[str], stem: str, variant: str) -> tuple[str | None, list[str]] | None:
    """The index and the weights among files with this stem and variant; None when there are none."""
    suffix = f".{variant}" if variant else ""
    single, index = f"{stem}{suffix}.safetensors", f"{stem}.safetensors.index{suffix}.json"
    if single in names:
        return None, [single]
    matches = [match for name in sorted(names) if (match := SHARD.fullmatch(name))]
    shards = [match for match in matches if match["stem"] == stem and _variant_of(match) == variant]
    if index not in names:
        _check_shard_numbers(shards)
    present = index if index in names else None
    return (present, [match[0] for match in shards]) if present or shards else None


def _check_shard_numbers(shards: Sequence[re.Match[str]]) -> None:
    """Without an index only the numbers tell whether all shards are there, once each."""
    counts = sorted({int(shard["count"]) for shard in shards})
    if len(counts) > 1:
        raise ValueError(f"there are shards of {' and of '.join(map(str, counts))}, and no index tells which count")
    numbers = sorted(int(shard["number"]) for shard in shards)
    expected = [number for count in counts for number in range(1, count + 1)]
    if missing := sorted(set(expected) - set(numbers)):
        raise ValueError(f"shards are missing: {_abbreviate([_shard_name(shards[0], number) for number in missing])}")
    if numbers != expected:
        raise ValueError(f"there are more shards than {len(expected)}, and no index tells which count")


def _shard_name(shard: re.Match[str], number: int) -> str:
    """The name of another shard of the same set."""
    return f"{shard.string[: shard.start('number')]}{number:05}{shard.string[shard.end('number') :]}"


def _reject_duplicate_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys occur once: the library would keep the last of several in silence."""
    seen = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key {key!r} occurs twice")
        seen[key] = value
    return seen


def _abbreviate(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
