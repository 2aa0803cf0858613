"""The data section of a config: its keys, their defaults, and what is wrong with one."""

from collections.abc import Callable, Mapping
from typing import Any

from dalle3_jax.data.degradation import degradation_errors

DEFAULTS: Mapping[str, Any] = {  # as configs/common.py has them, which may not import them: a test compares
    "source": "scenes",  # or a folder: of WebDataset tars, of pictures, with a metadata.jsonl, of a TFDS dataset
    "world": "first",
    "part": {},  # of the world: what `data.scenes.world_of` takes
    "split": "train",
    "size": (128, 128),  # height, width
    "buckets": (),  # sizes (height, width) that batches have; (): size alone
    "frames": (),  # sizes (height, width) of which each scene has the one that suits it; (): all have `size`
    "crop": 0,  # side of a random crop in pixels; 0: whole pictures
    "degradation": {},  # factor and more of `data.degradation`: of low-resolution images beside them; {}: none
    "captions": {"descriptive": 0.95, "short": 0.0, "alt": 0.05},  # version -> how often it is chosen
    "fields": {},  # of JSON beside pictures -> versions of captions; {}: `data.sources.captions_beside.FIELDS`
    "sidecars": (),  # folders of further versions of captions, as `dalle3-jax recaption` writes them
    "background": (255, 255, 255),  # red, green, blue: on which transparent pictures are laid
    "dropout": 0.1,  # how often a caption is left empty
    "text_length": 64,
    "glyph_length": 0,  # bytes of quoted text; 0: they are not read
    "records": 0,  # only the first so many of the source; 0: all
    "latents": 0,  # how many records have their latents cached; 0 encodes as it goes
    "cache": "",  # a folder of encoded latents
    "max_bad": 0.01,  # share of records that cannot be used above which a run stops
    "threads": 2,
    "prefetch": 16,  # batches
    "seed": 0,
}


def resolve_settings(section: Mapping[str, Any]) -> dict[str, Any]:
    """The data section with its defaults; ValueError names everything that is wrong with it."""
    given = {key: section[key] for key in section}
    if unknown := sorted(set(given) - set(DEFAULTS)):
        raise ValueError(f"unknown data settings {unknown}: choose from {sorted(DEFAULTS)}")
    settings = {**DEFAULTS, **given}
    wrong = [name for name, (suits, _) in CHECKS.items() if not suits(settings[name])]
    remedies = {name: remedy for name, (_, remedy) in CHECKS.items()}
    side = settings["crop"] or 0
    if "degradation" not in wrong and (errors := degradation_errors(settings["degradation"], side)):
        wrong, remedies["degradation"] = [*wrong, "degradation"], "; ".join(errors)
    if not is_whole(side, 0) or (not {"size", "buckets"} & {*wrong} and side > min(map(min, bucket_sizes(settings)))):
        wrong, remedies["crop"] = ["crop", *wrong], "a crop must fit into the picture, 0 for none"
    if wrong:
        raise ValueError("; ".join(f"data.{name} is {settings[name]!r}: {remedies[name]}" for name in wrong))
    return settings


def bucket_sizes(settings: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """The sizes (height, width) that batches may have."""
    return tuple((height, width) for height, width in settings["buckets"] or (settings["size"],))


def is_whole(value: Any, least: int) -> bool:
    """Whether it is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_image_size(value: Any) -> bool:
    """Whether it is height and width of pictures that a network can halve three times."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    return all(is_whole(side, 8) and side % 8 == 0 for side in value)


def are_image_sizes(value: Any) -> bool:
    """Whether it is sizes of pictures, each of them once."""
    if not isinstance(value, tuple | list) or not all(is_image_size(size) for size in value):
        return False
    return len(set(map(tuple, value))) == len(value)


def is_probability(value: Any) -> bool:
    """Whether it is a number in [0, 1]."""
    return isinstance(value, int | float) and 0 <= value <= 1


def is_colour(value: Any) -> bool:
    """Whether it is red, green and blue from 0 to 255."""
    return (
        isinstance(value, tuple | list) and len(value) == 3 and all(is_whole(part, 0) and part <= 255 for part in value)
    )


def are_fields(value: Any) -> bool:
    """Whether it is names by name."""
    return isinstance(value, Mapping) and all(isinstance(word, str) and word for word in [*value, *value.values()])


def are_folders(value: Any) -> bool:
    """Whether it is paths or addresses, each of them once."""
    if not isinstance(value, tuple | list) or not all(isinstance(folder, str) and folder for folder in value):
        return False
    return len(set(value)) == len(value)


def are_weights(value: Any) -> bool:
    """Whether it is numbers by name, none of them negative, not all of them zero."""
    if not isinstance(value, Mapping) or not all(isinstance(weight, int | float) for weight in value.values()):
        return False
    return min(value.values(), default=0) >= 0 and sum(value.values()) > 0


CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "world": (lambda value: isinstance(value, str | Mapping), "name a world, or describe a part of one"),
    "part": (lambda value: isinstance(value, Mapping), "describe it by the keys of `data.scenes.world_of`"),
    "size": (is_image_size, "height and width must be positive multiples of 8"),
    "frames": (are_image_sizes, "sizes are (height, width) in positive multiples of 8, each of them once"),
    "buckets": (are_image_sizes, "sizes are (height, width) in positive multiples of 8, each of them once"),
    "degradation": (lambda value: isinstance(value, Mapping), "give its settings by name, {} for none"),
    "captions": (are_weights, "the probabilities of the versions must not be negative, nor all be zero"),
    "fields": (are_fields, "name the version of captions that each field is, as {'prompt': 'descriptive'}"),
    "sidecars": (are_folders, "name the folders that dalle3-jax recaption wrote, as ('captions',), each of them once"),
    "background": (is_colour, "a colour is red, green and blue from 0 to 255, as (255, 255, 255)"),
    "dropout": (is_probability, "a probability lies in [0, 1]"),
    "max_bad": (is_probability, "a share lies in [0, 1]"),
    "records": (lambda value: is_whole(value, 0), "it must not be negative, 0 for all"),
    "text_length": (lambda value: is_whole(value, 1), "it must be at least 1"),
    "glyph_length": (lambda value: is_whole(value, 0), "it must not be negative, 0 for none"),
    "threads": (lambda value: is_whole(value, 1), "it must be at least 1"),
    "prefetch": (lambda value: is_whole(value, 0), "it must not be negative"),
}
