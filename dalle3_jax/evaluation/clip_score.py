"""The CLIP score: how well pictures go with their prompts, in the eyes of a CLIP that the user has on disk.

from dalle3_jax.evaluation.clip_score import ClipScorer

print(ClipScorer.load("clip-vit-base-patch32").scores(images, prompts).mean())

100 times the cosine, as DALL-E 3's paper gives it, with ViT-B/32 (arXiv 2104.08718 takes 2.5 instead of 100).
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dalle3_jax import convert
from dalle3_jax.captioning import CaptionModel
from dalle3_jax.convert.configs import raise_unsupported, unsupported_options
from dalle3_jax.convert.folders import read_json
from dalle3_jax.data.transforms import centre_square
from dalle3_jax.evaluation.outcomes import Outcome, Truth
from dalle3_jax.evaluation.statistics import Rate, bootstrap
from dalle3_jax.evaluation.tables import markdown_table
from dalle3_jax.models.clip import CLIP, CLIP_MEAN, CLIP_STD
from dalle3_jax.text.tokenizers import Tokenizer, read_folder_tokenizer
from dalle3_jax.typing import Array, Bool, DTypeLike, Float, Int, Params

ImageLike = Image.Image | UInt8[np.ndarray, "_ _ 3"]
ImagesLike = Sequence[ImageLike] | UInt8[np.ndarray, "b h w 3"]

BATCH = 32


@dataclass(frozen=True)
class ClipPreprocessor:
    """The network's preprocessing: a picture's shorter side resized, its centre cut out, its colours scaled."""

    shorter: int = 224
    side: int = 224
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD

    @classmethod
    def of(cls, config: Mapping[str, Any], side: int) -> "ClipPreprocessor":
        """That of a preprocessor_config.json, for a network of this `side`; ValueError naming what cannot be had."""
        names = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
        errors = unsupported_options(config, {**dict.fromkeys(names, True), "resample": 3, "rescale_factor": 1 / 255})
        shorter, crop = (
            _edge_length(config.get("size", side), "shortest_edge"),
            _edge_length(config.get("crop_size", side), "height"),
        )
        if shorter is None or shorter < side:
            errors.append(f"size={config.get('size')!r} (supported: a shortest_edge of {side} or more)")
        if crop != side or _edge_length(config.get("crop_size", side), "width") != side:
            errors.append(f"crop_size={config.get('crop_size')!r} (supported: {side} x {side}, the network's)")
        mean, std = config.get("image_mean", cls.mean), config.get("image_std", cls.std)
        if not (_is_colour(mean) and _is_colour(std) and all(std)):
            errors.append(f"image_mean={mean!r}, image_std={std!r} (supported: three numbers, no deviation of 0)")
        raise_unsupported("preprocessor_config.json", errors)
        return cls(shorter or side, side, tuple(mean), tuple(std))

    def __call__(self, picture: ImageLike) -> UInt8[np.ndarray, "s s 3"]:
        """The pixels that the network sees of a picture of any size."""
        image = (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).convert("RGB")
        return centre_square(np.asarray(image), self.side, self.shorter)


@dataclass(frozen=True, eq=False)
class ClipScorer:
    """Both towers of a CLIP with their parameters, its tokenizer and how it wants its pictures."""

    module: CLIP
    params: Params
    tokenizer: Tokenizer
    preprocess: ClipPreprocessor

    @classmethod
    def load(cls, folder: str | Path, dtype: DTypeLike = jnp.float32) -> "ClipScorer":
        """That of a folder as transformers writes it for a CLIPModel and its processor.

        Raises ValueError naming what is missing or does not fit; without preprocessor_config.json it is CLIP's own.
        """
        folder = Path(folder)
        module, params = convert.load(folder, dtype=dtype)
        if not isinstance(module, CLIP):
            raise ValueError(f"{folder} holds a {type(module).__name__}: pictures are scored by a whole CLIPModel")
        tokenizer = Tokenizer.from_json(read_folder_tokenizer(folder), str(folder))
        if tokenizer.vocab_size > module.vocab_size:
            raise ValueError(f"{folder}: its tokenizer has {tokenizer.vocab_size} ids, the network {module.vocab_size}")
        config = folder / "preprocessor_config.json"
        options = read_json(config) if config.exists() else {}
        return cls(module, params, tokenizer, ClipPreprocessor.of(options, module.image_size))

    def scores(self, images: ImagesLike, prompts: Sequence[str]) -> Float[np.ndarray, " n"]:
        """100 times the cosine of each picture and its prompt, of which CLIP reads the first 77 tokens."""
        if isinstance(prompts, str) or len(images) != len(prompts):
            count = "one text" if isinstance(prompts, str) else f"{len(prompts)} prompts"
            raise ValueError(f"{len(images)} pictures and {count}: give a list with the prompt of every picture")
        starts = range(0, len(images), BATCH)
        batches = [self._batch(images[i : i + BATCH], prompts[i : i + BATCH]) for i in starts]
        return np.concatenate([np.zeros(0, np.float32), *batches])

    def _batch(self, images: ImagesLike, prompts: Sequence[str]) -> Float[np.ndarray, " n"]:
        """The scores of a batch; a short one is filled up, so that all run the same program."""
        count = len(images)
        pixels = np.zeros((BATCH, self.preprocess.side, self.preprocess.side, 3), np.uint8)
        pixels[:count] = [self.preprocess(image) for image in images]
        ids, mask = self.tokenizer([*prompts, *[""] * (BATCH - count)], self.module.positions)
        colours = self.preprocess.mean, self.preprocess.std
        return np.asarray(clip_cosines(self.params, ids, mask, pixels, module=self.module, colours=colours))[:count]


@functools.partial(jax.jit, static_argnames=("module", "colours"))
def clip_cosines(
    params: Params,
    ids: Int[Array, "b l"],
    mask: Bool[Array, "b l"],
    pixels: UInt8[Array, "b h w 3"],
    *,
    module: CLIP,
    colours: tuple[tuple[float, ...], tuple[float, ...]],
) -> Float[Array, " b"]:
    """100 times the cosine of every text with its image; `colours` are the mean and deviation to normalise by."""

    def encode(*inputs: Array, method: str) -> Any:
        return module.apply({"params": params}, *inputs, method=method)

    mean, std = map(jnp.asarray, colours)
    images = encode((pixels / 255.0 - mean) / std, method="encode_image")
    return 100.0 * jnp.sum(encode(ids, mask, method="encode_text") * images, axis=-1)


def _edge_length(size: Any, name: str) -> int | None:
    """An edge out of a size that is a number, or an object with that edge; None where it is neither."""
    edge = size.get(name) if isinstance(size, Mapping) else size
    return edge if type(edge) is int else None


def _is_colour(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(type(x) in (int, float) for x in value)


class Similarity(NamedTuple):
    """100 times the cosine of pictures and prompts: the model's, with other prompts, and of faultless pictures."""

    model: Rate
    shuffled: float
    true: float | None


def measure_similarity(captioner: CaptionModel, outcomes: Sequence[Outcome], truths: Sequence[Truth]) -> Similarity:
    """Of pictures made of prompts of one protocol, at the captioner's size; of long prompts it reads what fits."""
    texts = [model_prompt(one) for one in outcomes]
    images, vectors = captioner.image_vectors([one.image for one in outcomes]), captioner.text_vectors(texts)
    own = 100 * np.einsum("nv,nv->n", images, vectors)
    others = 100 * np.einsum("nv,nv->n", images, np.roll(vectors, 1, 0))
    pairs = [(one.image, one.prompt.text) for one in truths]
    true = captioner.similarity([image for image, _ in pairs], [text for _, text in pairs]).mean() if pairs else None
    return Similarity(bootstrap(own), float(others.mean()), None if true is None else float(true))


def model_prompt(one: Outcome) -> str:
    """The prompt that the model was given."""
    return one.prompt.upsampled or one.prompt.text if one.protocol == "upsampled" else one.prompt.text


def similarity_markdown(similarities: dict[str, Similarity]) -> str:
    """A row a protocol."""
    rows = [
        [
            *(name, f"{one.model.value:.1f}", f"{one.model.low:.1f} to {one.model.high:.1f}", f"{one.shuffled:.1f}"),
            "-" if one.true is None else f"{one.true:.1f}",
        ]
        for name, one in similarities.items()
    ]
    return markdown_table(["prompts", "100 x cosine", "95 % interval", "other prompts", "true scenes"], rows)
