"""Writes an embedded tokenizer: python scripts/make_tokenizer.py scenes|whole|typed

    scenes  the demo's, learnt on the world `first`: 1,024 entries, lower-cased
    whole   learnt on the whole world: at most 3,072 entries; it keeps capitals, since drawn words are spelt exactly
    typed   the same with prompts as people type them and all names of things, lower-cased: for models that read quoted
            words as bytes beside it

Byte-level BPE, so that names of concepts are single tokens and yet nothing that anybody types is unknown; ids as T5 has
them: 0 pads, 1 ends. Quoted words teach nothing: those that training shows and those it never shows are spelt alike.
The last line says how long captions are, for `data.text_length`.
"""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from dalle3_jax.data.scenes import FIRST, WHOLE, World, make_captions, sample_scene
from dalle3_jax.data.scenes.naming import SYNONYMS

FOLDER = Path(__file__).parents[1] / "dalle3_jax/data/scenes"
SPECIAL = ("<pad>", "</s>", "<unk>")
CAPTIONS = 20_000


@dataclass(frozen=True)
class TokenizerRecipe:
    """What a tokenizer is learnt on, how large it is, and whether it knows capitals."""

    world: World
    file: str
    entries: int
    cased: bool
    versions: tuple[str, ...] = ("descriptive", "short", "alt")


RECIPES = {
    "scenes": TokenizerRecipe(FIRST, "tokenizer.json", 1024, cased=False),
    "whole": TokenizerRecipe(WHOLE, "tokenizer_whole.json", 3072, cased=True),
    "typed": TokenizerRecipe(WHOLE, "tokenizer_typed.json", 3072, False, ("descriptive", "short", "prompt")),
}

ENGLISH = """
a an the and or of in on at to from with without by for over under above below behind before beside between near next
left right top bottom upper lower middle centre center corner side one two three four five six seven eight nine ten
red orange yellow green blue purple pink brown black white grey gray golden small big large tiny little great old new
cute happy sad beautiful photo picture image painting drawing illustration art style is are was sits stands flying
looking playing some many few several no not it they this that there here night day morning evening sun moon sky water
tree flower house cat dog bird fish horse bear lion tiger cow car boat man woman child people
"""


def training_texts(recipe: TokenizerRecipe) -> Iterator[str]:
    """Captions of training scenes, every name often enough to become one token, and some of the rest of English."""
    world = recipe.world
    for index in range(CAPTIONS):
        spoken = make_captions(world, sample_scene(world, 0, index), 0, index)
        for version in recipe.versions if world.grammar else spoken:
            # the numbers of pictures deserve no entries
            yield re.sub(r'\d{4}|"[^"]*"', " ", spoken[version])
    for concept in world.concepts:
        names = [f"{concept.name} {concept.plural}"]
        if "prompt" in recipe.versions:
            names += [f"{synonym.text} {synonym.plural}" for synonym in SYNONYMS.get(concept.name, ())]
        for name in names:
            yield from [name] * (CAPTIONS * len(FIRST.concepts) // len(world.concepts))
    yield from [ENGLISH] * (CAPTIONS // 10)


def train_tokenizer(recipe: TokenizerRecipe) -> Tokenizer:
    """The tokenizer of a recipe."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    lower = [normalizers.NFKC(), normalizers.Lowercase()]
    tokenizer.normalizer = normalizers.NFC() if recipe.cased else normalizers.Sequence(lower)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.entries, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(training_texts(recipe), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def caption_lengths(tokenizer: Tokenizer, world: World) -> list[int]:
    """The tokens of descriptive captions of scenes that it was not learnt on."""
    rows = range(CAPTIONS, 2 * CAPTIONS)
    said = [make_captions(world, sample_scene(world, 0, index), 0, index)["descriptive"] for index in rows]
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(said)]


def main() -> None:
    """Learns the merges, writes the file and measures captions."""
    parser = argparse.ArgumentParser(description="Writes an embedded tokenizer.")
    parser.add_argument("world", choices=RECIPES)
    recipe = RECIPES[parser.parse_args().world]
    tokenizer, file = train_tokenizer(recipe), FOLDER / recipe.file
    tokenizer.save(str(file), pretty=False)
    middle, most = np.percentile(caption_lengths(tokenizer, recipe.world), (50, 99.9))
    print(f"{tokenizer.get_vocab_size()} entries in {file}; captions: median {middle:.0f}, 99.9 % {most:.0f} tokens")


if __name__ == "__main__":
    main()
