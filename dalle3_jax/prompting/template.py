"""The offline upsampler: a prompt is read with a lexicon and written again as descriptive captions are written.

What the lexicon does not know stays in the prompt's own words, framed by a sentence about the composition.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from dalle3_jax.prompting.claims import SEVERAL, Claims, parse_claims
from dalle3_jax.prompting.faithfulness import LEAST, MOST, content_words, missing_content, negated_words, stem
from dalle3_jax.prompting.lexicon import NUMBERS, Lexicon
from dalle3_jax.text.glyphs import QUOTED

__all__ = ["Chooser", "compose_description", "write_description"]

FRAMES = (
    "The picture is calm and clear, with even light, and it shows just what is described and nothing more.",
    "Everything is in full view in soft, even light, and the composition is simple and well balanced.",
    "The view is clear and uncluttered, the light is soft, and nothing distracts from what is shown.",
)
OPENINGS = re.compile(
    r"^(?:please\s+)?(?:draw|paint|make|create|generate|show|give|render|design)\s+(?:me\s+)?"
    r"|^i(?:'d| would)? (?:like|want|need)(?: to see)?\s+",
    re.I,
)
PICTURE = re.compile(
    r"^(?:an?|the)\s+(?:picture|image|photo|drawing|illustration|painting)\s+(?:of|showing|with)\s+", re.I
)
SPOTS = (("left", "right"), ("right", "left"))


def write_description(prompt: str, lexicon: Lexicon | None = None, seed: int = 0) -> str:
    """The prompt as a description of 15 to 80 words; the same for the same prompt and seed.

    Places and a background that the prompt leaves open are chosen, for captions say them too; nothing else is added.
    What has that length already, or more, stays as it is.
    """
    choose = Chooser(f"{seed} {prompt}")
    tries = [frame_prompt(prompt, choose)]
    if lexicon is not None:
        said = remove_things(parse_claims(prompt, lexicon), negated_words(prompt))
        tries.insert(0, extend_prompt(prompt, said, lexicon, choose))
        if covers_prompt(said, prompt, lexicon):
            tries.insert(0, compose_description(said, lexicon, choose))
    if len(prompt.split()) >= LEAST:
        tries = [prompt]
    fine = [text for text in tries if LEAST <= len(text.split()) <= MOST and not missing_content(prompt, text, lexicon)]
    return (fine or tries)[0]


def remove_things(claims: Claims, names: Sequence[str]) -> Claims:
    """The claims without things that are asked not to be there."""
    away = {stem(name) for name in names}
    kept = {name: number for name, number in claims.things.items() if not {stem(one) for one in name.split()} & away}
    return replace(claims, things=kept)


def extend_prompt(prompt: str, claims: Claims, lexicon: Lexicon, choose: "Chooser") -> str:
    """The prompt's own words, and sentences about where its things are."""
    if not 0 < len(claims.things) <= 6:
        return ""
    first = strip_request(prompt)
    where = [
        sentence.replace("It is", f"The {next(iter(claims.things))} is")
        for sentence in position_sentences(claims, lexicon, choose)
    ]
    return " ".join(close_sentences([f"{first}.", *where], choose))


@dataclass(frozen=True)
class Chooser:
    """Draws that hang on the prompt and on what is chosen, not on what was chosen before."""

    key: str

    def __call__(self, options: Sequence[str], what: str) -> str:
        """One of the options."""
        digest = blake2b(f"{self.key} {what}".encode("utf-8", "replace"), digest_size=4).digest()
        return options[int.from_bytes(digest, "little") % len(options)]


def frame_prompt(prompt: str, choose: Chooser) -> str:
    """The prompt's own words as a sentence, and one about the composition."""
    return f"{strip_request(prompt)}. {choose(FRAMES, 'frame')}"


def strip_request(prompt: str) -> str:
    """The prompt without the words that ask for a picture, and without its last stop."""
    whole = " ".join(prompt.split())
    said = PICTURE.sub("", OPENINGS.sub("", whole)).rstrip(" .!,;:") or whole
    return said[:1].upper() + said[1:]


def close_sentences(parts: Sequence[str], choose: Chooser) -> list[str]:
    """The sentences, of which the last says that this is all."""
    if parts[-1].endswith(("nothing else in view.", "no other objects.")):
        return list(parts)
    return [*parts, choose(("There are no other objects in view.", "Nothing else is in view."), "closing")]


def covers_prompt(claims: Claims, prompt: str, lexicon: Lexicon) -> bool:
    """Whether the lexicon's words are all that the prompt asks for: up to six things, each in a number, and quotes."""
    if (
        not claims.things
        or claims.words
        or sum(max(n, 2) for n in claims.things.values()) > 12
        or len(claims.things) > 6
    ):
        return False
    known = " ".join([*lexicon.things, *lexicon.things.values(), *claims.backgrounds, *lexicon.colours])
    phrases = [phrase for name in claims.backgrounds for phrase in lexicon.backgrounds[name]]
    stems = {stem(word) for word in content_words(" ".join([known, *phrases]))}
    return all(stem(word) in stems for word in content_words(QUOTED.sub(" ", prompt)))


def compose_description(claims: Claims, lexicon: Lexicon, choose: Chooser) -> str:
    """A description of the claims, in sentences like those of descriptive captions."""
    things = list(claims.things)
    background = (
        claims.backgrounds[0] if claims.backgrounds else choose(sorted(lexicon.backgrounds) or [""], "background")
    )
    phrases = lexicon.backgrounds.get(background, ("",))
    where = f" {choose(phrases[:2], 'where')}" if phrases[0] else ""
    opening = choose(("The picture shows", "A picture of"), "opening")
    opening = f"{opening} {join_in_words([counted_name(name, claims, lexicon) for name in things])}{where}."
    parts = [opening, *position_sentences(claims, lexicon, choose)]
    return " ".join(" ".join(close_sentences(parts, choose)).split())


def position_sentences(claims: Claims, lexicon: Lexicon, choose: Chooser) -> list[str]:
    """Sentences about where things are: as the prompt says, or else as is natural."""
    things = list(claims.things)
    names = {name: plain_name(name, claims, lexicon) for name in things}
    stated = [
        f"The {names[first]} {is_or_are(claims, first)} {relation_phrase(name, others, names, lexicon)}."
        for first, name, *others in claims.relations
    ]
    mentioned = {name for relation in claims.relations for name in (relation[0], *relation[2:])}
    stated += [
        f"The {names[name]} {is_or_are(claims, name)} {lexicon.places[place][0]} of the frame."
        for name, place in claims.places.items()
        if name not in mentioned
    ]
    if stated:
        return stated
    numbers = [claims.things[name] for name in things]
    if len(things) == 1 and numbers[0] == 1:
        place = lexicon.places.get("centre", ("in the centre",))[0]
        return [f"It is placed {place} of the frame, with nothing else in view."]
    if len(things) == 1:
        way = choose(("side by side", "close together", "next to each other"), "arrangement")
        sure = f"exactly {number_word(numbers[0])} of them" if numbers[0] != SEVERAL else "several of them"
        return [f"There are {sure}, {way}, and no other objects."]
    if len(things) == 2:
        one, other = choose(SPOTS[0], "spot"), ""
        other = "right" if one == "left" else "left"
        spots = [lexicon.places[spot][0] for spot in (one, other)]
        where = [
            f"the {names[name]} {is_or_are(claims, name)} {spot}" for name, spot in zip(things, spots, strict=True)
        ]
        return [f"The {' and '.join(where).removeprefix('the ')}."]
    return [f"From left to right they are {join_in_words([f'the {names[name]}' for name in things])}."]


def relation_phrase(name: str, others: Sequence[str], names: Mapping[str, str], lexicon: Lexicon) -> str:
    """A relation in words."""
    if name == "between":
        return f"between the {names[others[0]]} and the {names[others[1]]}"
    return f"{lexicon.relations[name][0]} the {names[others[0]]}"


def counted_name(name: str, claims: Claims, lexicon: Lexicon) -> str:
    """Things with their number and colour: "a red car", "three owls"."""
    number, tints = claims.things[name], claims.tints.get(name, ())
    if len(tints) > 1:
        return join_in_words([f"a {tint} {name}" for tint in tints])
    text = " ".join([*tints, name if number == 1 else lexicon.things[name]])
    if number == 1:
        article = (
            ("an" if tints[0][0] in "aeiou" else "a")
            if tints
            else lexicon.articles.get(name, "an" if name[0] in "aeiou" else "a")
        )
        return f"{article} {text}"
    return text if number == SEVERAL else f"{number_word(number)} {text}"


def plain_name(name: str, claims: Claims, lexicon: Lexicon) -> str:
    """Things as they are called once they were introduced."""
    return name if claims.things[name] == 1 else lexicon.things[name]


def is_or_are(claims: Claims, name: str) -> str:
    """is or are."""
    return "is" if claims.things[name] == 1 else "are"


def number_word(number: int) -> str:
    """A number in words where there is one."""
    return NUMBERS[number] if number < len(NUMBERS) else str(number)


def join_in_words(names: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
