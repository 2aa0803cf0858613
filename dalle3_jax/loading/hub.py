"""Releases, pipelines and networks by their name on the Hugging Face hub: only what is read of them, into its cache.

Weights come last, so a cached folder in which they are whole is whole: that is how, without a network, all of a
repository is told from a part of it.
"""

import glob
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dalle3_jax.loading.repositories import ROOTS, file_groups, root_file

__all__ = ["fetch", "is_hub_id"]

WORD = r"\w(?:[\w.-]*\w)?"
ID = re.compile(rf"(?P<repo>{WORD}/{WORD})(?:@\w[\w./+-]*)?", re.ASCII)


class Revision(NamedTuple):
    """A revision of a repository, the hub it is on, and the cache it comes to; None is the library's default."""

    repo: str
    revision: str
    endpoint: str | None
    cache: Path | None


def is_hub_id(name: str | Path) -> bool:
    """Whether a name reads `organisation/name`, perhaps with `@revision`, and is no path that exists here."""
    return isinstance(name, str) and _is_id(name) and not os.path.exists(name)


def fetch(
    name: str,
    variant: str | None = None,
    revision: str = "main",
    endpoint: str | None = None,
    cache: str | Path | None = None,
) -> Path:
    """Downloads what is read of a repository and returns its folder in the cache of huggingface_hub.

    `name` may end in `@revision`; `variant` is that of `weight_names`; `endpoint` and `cache` are the library's own
    unless given. When the hub cannot be asked, a folder in the cache will do if it is whole.
    Raises ValueError with the remedy; a repository without safetensors is refused before anything is downloaded.
    """
    source = _parse_revision(name, revision, endpoint, cache)
    try:
        names = _list_files(source)
    except ValueError as error:
        return _find_cached(source, variant, error)
    with _naming_repository(source):
        root = root_file(names)
        folder = _download_root(source, root)
        _download_groups(folder, root, names, variant, lambda group: _download(source, folder.name, group))
    return folder


def _is_id(name: str) -> bool:
    """The rules of the hub, as `huggingface_hub.utils.validate_repo_id` has them."""
    match = ID.fullmatch(name)
    if match is None or ".." in name:  # nor does a revision name a path outside the cache
        return False
    repo = match["repo"]
    return len(repo) <= 96 and "--" not in repo and not repo.endswith(".git")


def _parse_revision(name: str, revision: str, endpoint: str | None, cache: str | Path | None) -> Revision:
    repo, _, own = name.partition("@")
    if own and revision not in ("main", own):
        raise ValueError(f"{name} and revision {revision!r} contradict each other; give one of them")
    revision = own or revision
    if not (_is_id(name) and _is_id(f"{repo}@{revision}")):
        raise ValueError(f"{name!r} at revision {revision!r} is no name on the hub: it reads organisation/name")
    return Revision(repo, revision, endpoint, None if cache is None else Path(cache).expanduser())


def _list_files(source: Revision) -> list[str]:
    """The paths of all files of the repository at its revision."""
    with _explaining_errors(source):
        from huggingface_hub import HfApi

        info = HfApi(endpoint=source.endpoint).model_info(source.repo, revision=source.revision)
    return [file.rfilename for file in info.siblings or ()]


def _download_root(source: Revision, root: str) -> Path:
    """Downloads one file by the name of the revision, which is how the cache learns its commit; returns its folder."""
    with _explaining_errors(source):
        from huggingface_hub import hf_hub_download

        return Path(
            hf_hub_download(
                source.repo, root, revision=source.revision, endpoint=source.endpoint, cache_dir=source.cache
            )
        ).parent


def _download(source: Revision, commit: str, names: Sequence[str]) -> None:
    """Downloads files of one commit, but for those that the cache has."""
    with _explaining_errors(source):
        from huggingface_hub import snapshot_download

        snapshot_download(
            source.repo,
            revision=commit,
            endpoint=source.endpoint,
            cache_dir=source.cache,
            allow_patterns=[glob.escape(name) for name in names],
        )


def _find_cached(source: Revision, variant: str | None, cause: ValueError) -> Path:
    """The folder in the cache if it is whole; else raises the problem that made it be looked for."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        raise cause from None
    for root in ROOTS:
        path = try_to_load_from_cache(source.repo, root, cache_dir=source.cache, revision=source.revision)
        if isinstance(path, str):
            folder = Path(path).parent
            names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
            try:
                _download_groups(folder, root, names, variant)
            except ValueError as error:
                raise ValueError(f"{cause}. The cache has only a part of it: {error}") from None
            return folder
    raise cause


def _download_groups(
    folder: Path,
    root: str,
    names: Collection[str],
    variant: str | None,
    download: Callable[[Sequence[str]], None] = lambda group: None,
) -> None:
    """Downloads the groups of files one after the other; ValueError when one is not to be had."""
    for group in file_groups(folder, root, names, variant):
        if missing := [name for name in group if name not in names]:
            raise ValueError(f"it lacks {', '.join(missing)}, which its own files name")
        download(group)
        if missing := [name for name in group if not (folder / name).is_file()]:
            raise ValueError(f"it changed meanwhile and {', '.join(missing)} did not come; try again")


@contextmanager
def _naming_repository(source: Revision) -> Iterator[None]:
    """Says of which repository a ValueError speaks."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"cannot use {source.repo} at revision {source.revision}: {error}") from error.__cause__


@contextmanager
def _explaining_errors(source: Revision) -> Iterator[None]:
    """Turns what the library raises into ValueError with the remedy."""
    try:
        yield
    except Exception as error:  # its connection errors are those of its HTTP client, which changes with its version
        raise ValueError(_remedy(source, error)) from error


def _remedy(source: Revision, error: Exception) -> str:
    """The error's message: what went wrong and what to do about it."""
    if isinstance(error, ImportError):
        return f"{source.repo} is no folder here, and taking it from the hub needs huggingface_hub: pip install it"
    from huggingface_hub import constants, errors

    hub = source.endpoint or constants.ENDPOINT
    login = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        return f"{source.repo} is gated: accept its terms at {hub}/{source.repo} and {login}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{source.repo} is no folder here and no public repository at {hub}: check the name, or {login}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{source.repo} at {hub} has no revision {source.revision!r}: name a branch, a tag or a commit of it"
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"cannot fetch {source.repo} from {hub} ({reason}): check the network, set HF_ENDPOINT to a mirror, "
        "or download the repository elsewhere and give its folder"
    )
