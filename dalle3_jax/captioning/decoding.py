"""Settings of the writing of captions, apart from the loop that does it: whoever asks for them needs no networks."""

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["METHODS", "CaptionDecoding", "Method"]

Method = Literal["greedy", "top_p", "beam"]
METHODS = get_args(Method)


@dataclass(frozen=True)
class CaptionDecoding:
    """Settings of writing captions.

    greedy: the likeliest token each time. top_p: one drawn at `temperature` from the fewest tokens whose chances sum to
    `top_p`. beam: the likeliest of `beams` texts, their log likelihood divided by length ** `length_penalty`.
    `length`: tokens at most, 0 for as many as the captioner has positions. ValueError for what makes no sense.
    """

    method: str = "greedy"
    temperature: float = 1.0
    top_p: float = 0.9
    beams: int = 4
    length_penalty: float = 0.0
    length: int = 0

    def __post_init__(self) -> None:
        errors = []
        if self.method not in METHODS:
            errors.append(f"method {self.method!r}: use {', '.join(METHODS)}")
        if not self.temperature > 0:
            errors.append(f"temperature {self.temperature}: it must be above 0 (greedy has none)")
        if not 0 < self.top_p <= 1:
            errors.append(f"top_p {self.top_p}: it must lie in (0, 1]")
        if self.beams < 1 or self.length < 0:
            errors.append(f"beams {self.beams}, length {self.length}: at least 1 beam, and no negative length")
        if errors:
            raise ValueError("; ".join(errors))

    @property
    def width(self) -> int:
        """Texts that are written at once for each picture."""
        return self.beams if self.method == "beam" else 1
