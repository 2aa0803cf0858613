"""The context that a stage is built from: the config, the workdir, the networks, and the tokenizer of its captions."""

import functools
import importlib.resources
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from dalle3_jax.data import files
from dalle3_jax.models.glyph import check_glyphs
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.text.tokenizers import Tokenizer, read_folder_tokenizer

__all__ = ["Context", "config_tokenizer", "named_tokenizer"]

EMBEDDED = {"scenes": "tokenizer.json", "whole": "tokenizer_whole.json", "typed": "tokenizer_typed.json"}


@dataclass(frozen=True)
class Context:
    """The config of a stage, the workdir in which earlier stages lie, and its networks."""

    config: ConfigDict
    workdir: Path
    networks: StageNetworks

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that config.data.tokenizer names; "" is that of the release in config.init.text_encoder.

        Raises ValueError where the text encoder has too few embeddings for it, or glyphs lack a part.
        """
        tokenizer = find_tokenizer(self.config, self.networks)
        if encoder := self.networks.modules.get("text_encoder"):
            check_glyphs(self.networks.modules, self.config.data.glyph_length)
            if tokenizer.vocab_size > encoder.vocab_size:
                raise ValueError(
                    f"the tokenizer has {tokenizer.vocab_size} entries, more than "
                    f"config.model.text_encoder.vocab_size={encoder.vocab_size}: raise it"
                )
        return tokenizer


def find_tokenizer(config: ConfigDict, networks: StageNetworks) -> Tokenizer:
    """The tokenizer that the config names, or that of the release which the text encoder is from."""
    if config.data.tokenizer:
        return config_tokenizer(config)
    release = networks.releases.get("text_encoder")
    if release is None or not release.tokenizer:
        raise ValueError("config.data.tokenizer is empty and config.init.text_encoder has no tokenizer: name a folder")
    return Tokenizer.from_json(release.tokenizer, str(config.init.text_encoder))


def config_tokenizer(config: ConfigDict) -> Tokenizer:
    """The tokenizer that config.data.tokenizer names."""
    return named_tokenizer(config.data.tokenizer)


def named_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a name: an embedded one, a file, or a folder of transformers."""
    if name in EMBEDDED:
        file = importlib.resources.files("dalle3_jax.data.scenes") / EMBEDDED[name]
        return Tokenizer.from_json(file.read_text(encoding="utf-8"), str(file))
    name = files.local_path(name)
    if Path(name).is_dir():
        return Tokenizer.from_json(read_folder_tokenizer(name), name)
    return Tokenizer.load(Path(name))
