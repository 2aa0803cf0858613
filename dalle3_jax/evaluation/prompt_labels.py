"""Labels of any prompt, as far as it is said in words that a lexicon knows: what a reader of pictures can judge.

from dalle3_jax.data.scenes import WHOLE
from dalle3_jax.evaluation.prompt_labels import label_prompt
from dalle3_jax.prompting.scene_lexicon import world_lexicon

label_prompt("3 red balloons at night", world_lexicon(WHOLE))
"""

from dalle3_jax.evaluation.prompts import Labels, RequestedObject
from dalle3_jax.prompting.claims import SEVERAL, Claims, parse_claims
from dalle3_jax.prompting.lexicon import Lexicon
from dalle3_jax.prompting.translation import translate
from dalle3_jax.prompting.unknown_words import unknown_words

MEANINGS = 8
"""Seeds that choose among what a general word may mean: of two things, one time in 128 it is the same throughout."""


def label_prompt(prompt: str, lexicon: Lexicon) -> Labels | None:
    """Labels of what a picture of the prompt must show; None where it holds unknown words, or says what no label can.

    What things do, what they are like but for their tint, and what must not be there is left to the eye; so are general
    words that may mean several things ("bird").
    """
    text = translate(prompt, lexicon).text
    if unknown_words(prompt, lexicon):
        return None
    if any(translate(prompt, lexicon, seed).text != text for seed in range(1, MEANINGS)):
        return None
    return claims_to_labels(parse_claims(text, lexicon))


def claims_to_labels(claims: Claims) -> Labels | None:
    """The labels of what is said; None where there are none, or they would ask for another thing than is said.

    That is so of numbers that are left open ("balloons"), of several backgrounds, of tints that do not tell which of
    the things have them, of relations between things of one name, and of quotes that are not one word each.
    """
    objects: list[RequestedObject] = []
    numbers: dict[str, int] = {}
    for name, count in claims.things.items():
        tints, place = claims.tints.get(name, ()), claims.places.get(name, "")
        if count == SEVERAL or len(tints) not in (0, 1, count) or (len(tints) > 1 and place):
            return None
        numbers[name] = -1 if len(tints) > 1 else len(objects)
        each = 1 if len(tints) > 1 else count
        objects += [RequestedObject(name, each, tint, place) for tint in tints or ("",)]
    relations = tuple(
        tuple(part if at == 1 else numbers.get(part, -1) for at, part in enumerate(relation))
        for relation in claims.relations
    )
    if (
        len(claims.backgrounds) > 1
        or any(-1 in relation for relation in relations)
        or any(len({relation[0], *relation[2:]}) < len(relation) - 1 for relation in relations)
        or any(word.split() != [word] for word in claims.words)
    ):
        return None
    labels = Labels(tuple(objects), relations, "".join(claims.backgrounds), words=claims.words)
    return labels if labels != Labels() else None
