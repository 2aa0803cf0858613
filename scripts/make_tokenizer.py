"""Writes the demo's tokenizer: python scripts/make_tokenizer.py

A byte-level BPE of about 1,000 entries, learnt on captions of the embedded dataset, so that the names of its concepts
are single tokens and yet nothing that anybody types is unknown. Lower-cased; ids as T5 has them: 0 pads, 1 ends.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from dalle3_jax.data.scenes import FIRST, captions, scene

FILE = Path(__file__).parents[1] / "dalle3_jax/data/scenes/tokenizer.json"
ENTRIES = 1024
SPECIAL = ("<pad>", "</s>", "<unk>")
CAPTIONS = 20_000


ENGLISH = """
a an the and or of in on at to from with without by for over under above below behind before beside between near next
left right top bottom upper lower middle centre center corner side one two three four five six seven eight nine ten
red orange yellow green blue purple pink brown black white grey gray golden small big large tiny little great old new
cute happy sad beautiful photo picture image painting drawing illustration art style is are was sits stands flying
looking playing some many few several no not it they this that there here night day morning evening sun moon sky water
tree flower house cat dog bird fish horse bear lion tiger cow car boat man woman child people
"""


def texts() -> Iterator[str]:
    """Captions of training scenes, every name often enough to become one token, and some of the rest of English."""
    for index in range(CAPTIONS):
        for caption in captions(FIRST, scene(FIRST, 0, index), 0, index).values():
            yield re.sub(r"\d{4}", " ", caption)  # the numbers of pictures deserve no entries
    for concept in FIRST.concepts:
        yield from [f"{concept.name} {concept.plural}"] * CAPTIONS
    yield from [ENGLISH] * (CAPTIONS // 10)


def main() -> None:
    """Learns the merges and writes the file."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=ENTRIES, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(FILE), pretty=False)
    print(f"{tokenizer.get_vocab_size()} entries in {FILE}")


if __name__ == "__main__":
    main()
