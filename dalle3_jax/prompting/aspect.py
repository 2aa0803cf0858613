"""The size that a prompt asks for: said outright, chosen by a language model, or by a head over the text's features."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dalle3_jax.text.glyphs import QUOTED

__all__ = ["Aspect", "SizeChoice", "SizeScorer", "choose_size", "nearest_size", "size_question", "stated_aspect"]

Size = tuple[int, int]
"""Height and width in pixels."""

SizeScorer = Callable[[str], Sequence[float]]
"""The chances of each of the sizes, for a prompt."""

WIDE, TALL, SQUARE, CINEMA, PHONE, COVER = 16 / 9, 9 / 16, 1.0, 21 / 9, 9 / 16, 2 / 3
THING = (
    r"(?:format|orientation|mode|layout|picture|image|photo|photograph|shot|drawing|frame|crop|composition|canvas|render"
    r"|illustration)"
)
ADVERB = r"(?:very |extra |ultra[- ]?)?"
RATIOS = {(16, 9), (9, 16), (4, 3), (3, 4), (3, 2), (2, 3), (1, 1), (2, 1), (1, 2), (21, 9), (9, 21), (5, 4), (4, 5)}
RATIOS |= {(7, 4), (4, 7), (16, 10), (10, 16), (3, 1), (1, 3)}
LENGTHS = r"\s*(?:mm|cm|m|km|inch|inches|feet|metres|meters)\b"
PIXELS = re.compile(rf"(?<![\w.])([1-9]\d{{2,4}})\s*[x\u00d7]\s*([1-9]\d{{2,4}})(?![\w.]|{LENGTHS})")
RATIO = re.compile(r"(?<![\w.:])(\d{1,2})\s*([:x\u00d7/])\s*(\d{1,2})(?![\w:]|\.\d)")
CONTEXT = re.compile(r"\b(?:aspect|ratio|format)\b")
BEFORE = re.compile(r"\b(?:(?:scores?|odds|scale)(?: is| of)?|says?|saying|reads|reading|psalms?|john)$")
AFTER = re.compile(r"^ (?:odds|scale|score|victory|win|lead|mixture|dilution)\b")
"""What makes two numbers something else than a shape."""
WHERE = (
    r"(?:walls?|tables?|desks?|shelf|shelves|doors?|floors?|fence|board|bed|sofa|chair|lamp ?post|window|screen|phone)"
)
PLACE = rf"(?! (?:\w+ )?(?:on|above|behind|beside|under|next to) (?:an?|the|his|her|my|their) (?:\w+ )?{WHERE}\b)"
"""A poster on the wall hangs in the picture; a poster on its own is the picture."""
WORDS: tuple[tuple[str, float], ...] = (
    (rf"\b{ADVERB}wide[- ]?screen\b", WIDE),
    (r"\bultra[- ]?wide\b|\bcinema(?:scope|tic widescreen)\b", CINEMA),
    (rf"\b{ADVERB}(?:wide(?! shot)|panoramic|horizontal|landscape)(?:[- ]format)? {THING}\b", WIDE),
    (rf"\bmake (?:it|this) {ADVERB}(?:wide|horizontal|panoramic|landscape)\b", WIDE),
    (rf"\bmake (?:it|this) {ADVERB}(?:tall|vertical|upright|portrait)\b", TALL),
    (r"\bmake (?:it|this) (?:a )?square\b", SQUARE),
    (rf"\b{ADVERB}(?:tall|vertical|upright|portrait)(?: and narrow)?(?:[- ]format)? {THING}\b", TALL),
    (rf"\b{ADVERB}square(?:[- ]format)? {THING}\b", SQUARE),
    (r"\bin (?:a )?(?:landscape|wide|horizontal|panoramic) (?:format|orientation|mode)\b|\bin landscape$", WIDE),
    (r"\bin (?:a )?(?:portrait|tall|vertical) (?:format|orientation|mode)\b|\bin portrait$", TALL),
    (r"(?:^|,)\s*(?:landscape|horizontal|panoramic|wide)\s*(?:,|$)", WIDE),
    (r"(?:^|,)\s*(?:portrait|vertical|tall)\s*(?:,|$)", TALL),
    (r"(?:^|,)\s*square\s*(?:,|$)", SQUARE),
    (r"\b(?:as|for|an?) (?:\w+ )?panorama\b|(?:^|,)\s*panorama\b|\bpanoramic view\b", WIDE),
    (
        r"\b(?:wide|web(?:site)?|header|hero|twitter|youtube|facebook) banner\b"
        r"(?! (?:that|which|reading|saying|with the word))",
        CINEMA,
    ),
    (r"\bbanner (?:image|format)\b|\b(?:cover photo|header image)\b", CINEMA),
    (r"\byoutube thumbnail\b|\bslide background\b|\bpresentation slide\b", WIDE),
    (r"\b(?:phone|mobile|iphone|android|smartphone|lock[- ]?screen) (?:wallpaper|background)\b", PHONE),
    (r"\b(?:instagram|snapchat|whatsapp) story\b|\b(?:tiktok|reels?) (?:video|cover|format)\b", PHONE),
    (r"\b(?:desktop|computer|laptop|monitor|pc) (?:wallpaper|background)\b", WIDE),
    (rf"\bbook ?mark\b{PLACE}", 1 / 3),
    (rf"\b(?:book cover|(?:tall|movie|film|concert|travel) poster)\b{PLACE}", COVER),
    (rf"\b(?:album cover|profile picture|app icon|instagram post|avatar)\b{PLACE}", SQUARE),
)
"""What people call shapes of pictures -> width : height. "A portrait of a king", "a wide river", "a wide shot" and "a
banner that says" name things in a picture or a camera's distance, not its shape."""


@dataclass(frozen=True)
class Aspect:
    """A shape, width over height, and the words that say it."""

    ratio: float
    words: str


@dataclass(frozen=True)
class SizeChoice:
    """A size, and the reason in a sentence for people."""

    size: Size
    reason: str


def stated_aspect(prompt: str) -> Aspect | None:
    """The shape that a prompt names outright; None where it names none. What stands in quotes says nothing."""
    text = " ".join(QUOTED.sub(" ", prompt).lower().split()).rstrip(" .!")
    if match := PIXELS.search(text):
        return Aspect(int(match[1]) / int(match[2]), match[0])
    for match in RATIO.finditer(text):
        width, height = int(match[1]), int(match[3])
        in_context = bool(CONTEXT.search(text[max(0, match.start() - 20) : match.end() + 20]))
        other = BEFORE.search(text[: match.start()].rstrip()) or AFTER.search(text[match.end() :])
        if height and width and not other and (in_context or (match[2] != "/" and (width, height) in RATIOS)):
            return Aspect(width / height, match[0])
    pairs = ((re.search(pattern, text), ratio) for pattern, ratio in WORDS)
    ratios = [(match.start(), match[0].strip(" ,"), ratio) for match, ratio in pairs if match]
    return Aspect(min(ratios)[2], min(ratios)[1]) if ratios else None


def nearest_size(ratio: float, sizes: Sequence[Size]) -> Size:
    """The size whose shape is nearest to width : height, by the logarithm; of equally near ones the largest."""
    return min(sizes, key=lambda size: (round(abs(math.log(size[1] / size[0] / ratio)), 9), -size[0] * size[1]))


def choose_size(
    prompt: str, sizes: Sequence[Size], *, chat: Callable[[str], str] | None = None, head: SizeScorer | None = None
) -> SizeChoice:
    """One of the sizes: as the prompt says outright, as a language model answers, as the head has it, or the first.

    `chat` answers the question of `size_question`; whatever it does wrong, the next in turn is asked.
    """
    if not sizes:
        raise ValueError("there are no sizes to choose from: give at least one")
    if aspect := stated_aspect(prompt):
        return SizeChoice(nearest_size(aspect.ratio, sizes), f'the prompt says "{aspect.words}"')
    passed = ""
    if chat is not None:
        try:
            size = parse_size_answer(chat(size_question(prompt, sizes)), sizes)
            if size is not None:
                return SizeChoice(size, "the language model chose it")
            passed = "the language model named none of the sizes; "
        except Exception as error:  # of a server anything may come: the size must not cost the picture
            passed = f"the language model was of no help ({error}); "
    if head is not None:
        chances = list(head(prompt))
        best = max(range(len(sizes)), key=chances.__getitem__)
        return SizeChoice(sizes[best], f"{passed}the size head gives it {chances[best]:.0%}")
    return SizeChoice(sizes[0], f"{passed}nothing is said of it, and it is the first")


def size_question(prompt: str, sizes: Sequence[Size]) -> str:
    """The question that a language model is asked."""
    names = ", ".join(f"{width}x{height}" for height, width in sizes)
    question = f"Which of these sizes (width x height) suits the picture best: {names}? Answer with one of them alone."
    return f"{question}\n{prompt!r}"


def parse_size_answer(text: str, sizes: Sequence[Size]) -> Size | None:
    """The size that an answer consists of; None where it is anything else."""
    match = re.fullmatch(r"\s*(\d{2,5})\s*[x\u00d7]\s*(\d{2,5})\s*\.?\s*", text)
    size = (int(match[2]), int(match[1])) if match else None
    return size if size in sizes else None
