"""Which files of a public repository are read: those of a release of ours, of a pipeline, or of a single network.

Checkpoints in one file, safety checkers, image encoders beside text encoders and the weights of other frameworks are
left where they are.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from dalle3_jax.checkpoints.release_record import read_record
from dalle3_jax.convert.folders import choose_variants, no_weights_message, read_index, read_json, weight_names

__all__ = ["ROOTS", "file_groups", "root_file"]

ROOTS = ("model.json", "model_index.json", "config.json")
"""What tells, at its root, that a repository is a release of ours, a pipeline of diffusers, or a single network."""

TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
NETWORKS = (*TEXT_ENCODERS, "image_encoder", "unet", "vae")
TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "spiece.model"),
)
OPTIONAL = {
    "": ("preprocessor_config.json", *TOKENIZER),
    "tokenizer": TOKENIZER,
    "tokenizer_2": TOKENIZER,
    "scheduler": ("scheduler_config.json",),
    "low_res_scheduler": ("scheduler_config.json",),
}
"""Small files of a folder that are read where they are there; "" is the root of a single network."""


def root_file(names: Collection[str]) -> str:
    """The one of ROOTS that counts among the paths of a repository; ValueError when nothing in it can be read."""
    if not any(name.endswith(".safetensors") for name in names):
        raise ValueError(no_weights_message(sorted(names)))
    roots = [root for root in ROOTS if root in names]
    if not roots:
        raise ValueError(f"it has none of {', '.join(ROOTS)} at its root, so nothing tells what it is")
    return roots[0]


def file_groups(folder: Path, root: str, names: Collection[str], variant: str | None) -> Iterator[list[str]]:
    """The paths that are read of a repository with these `names`, in groups, the weights in the last one.

    The files of a group must lie in `folder` before the next is asked for, since they say what it is. The first needs
    `root`. ValueError for all networks at once that have no weights (of that variant).
    """
    if root == "model.json":
        yield _release_files(folder)
        return
    parts = _pipeline_parts(folder / root) if root == "model_index.json" else [""]
    networks = [part for part in parts if part in ("", *NETWORKS)]
    chosen = _weight_paths(networks, names, variant)
    configs = [_path(network, "config.json") for network in networks]
    optional = [_path(part, file) for part in parts for file in OPTIONAL.get(part, ())]
    yield [*configs, *(path for path in optional if path in names), *(index for index, _ in chosen if index)]
    yield [path for index, paths in chosen for path in (_shard_paths(folder, index) if index else paths)]


def _release_files(folder: Path) -> list[str]:
    """The files that the model.json of a release names."""
    record = read_record(folder)
    files = [file for part in record["components"].values() for file in part["files"]]
    return files + (["tokenizer.json"] if record["tokenizer"] else [])


def _pipeline_parts(path: Path) -> list[str]:
    """The folders that a model_index.json fills, as far as they can be read."""
    index = read_json(path)
    filled = [name for name, value in index.items() if isinstance(value, list) and value and None not in value]
    if not set(filled).intersection(NETWORKS):
        raise ValueError(f"its model_index.json names none of {', '.join(NETWORKS)}; it is a pipeline of another kind")
    unread = {"image_encoder"} if set(filled).intersection(TEXT_ENCODERS) else set()
    return [name for name in filled if name in {*NETWORKS, *OPTIONAL} - unread]


def _weight_paths(
    networks: Sequence[str], names: Collection[str], variant: str | None
) -> list[tuple[str | None, list[str]]]:
    """The path of the index, if there is one, and the paths of the weights of each network."""
    inside = {network: _names_in_folder(names, network) for network in networks}
    variants, chosen, errors = choose_variants(inside, variant), [], []
    for network in networks:
        try:
            index, files = weight_names(inside[network], variants[network])
        except ValueError as error:
            errors.append(f"{network}: {error}" if network else str(error))
        else:
            chosen.append((index and _path(network, index), [_path(network, file) for file in files]))
    if errors:
        raise ValueError("; ".join(errors))
    return chosen


def _shard_paths(folder: Path, index: str) -> list[str]:
    """The paths that an index names, itself a path, once each."""
    return [_path(index.rpartition("/")[0], file) for file in sorted(set(read_index(folder / index).values()))]


def _names_in_folder(names: Collection[str], part: str) -> list[str]:
    """The names of the files that lie in one folder, not deeper."""
    return [PurePosixPath(name).name for name in names if name.rpartition("/")[0] == part]


def _path(part: str, file: str) -> str:
    return f"{part}/{file}" if part else file
