"""The glyph encoder: a T5 encoder over the bytes of a prompt's quoted text, whose features join T5's in xfnet.

DALL-E 3's paper names conditioning on characters as future work; here it is a switch. No class of its own: ByT5's
encoder is T5's with a vocabulary of bytes, so that ByT5's weights fit the component `glyph_encoder` as they are. Bytes
that are not there are masked, and xfnet leaves their features out. How xfnet tells the two kinds of features apart:
each has a projection of its own, and the bias of `project_glyphs` is what all glyphs have in common.
"""

from collections.abc import Mapping

from flax import linen as nn

from dalle3_jax.models.clip import CLIPTextEncoder

__all__ = ["check_glyphs", "text_components"]

BYTE_IDS = 3 + 256
"""Of padding, a word's end, one that ByT5 keeps free, and the bytes; ByT5's own table has 384 rows."""


def text_components(modules: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """The components that turn text into a condition: CLIP's text encoders do so by themselves, one or two of them."""
    if isinstance(modules.get("text_encoder"), CLIPTextEncoder):
        return ("text_encoder", *(("text_encoder_2",) if "text_encoder_2" in modules else ()))
    glyphs = ("glyph_encoder",) if "glyph_encoder" in modules else ()
    layout = ("layout_head", "layout_encoder") if "layout_encoder" in modules else ()
    memory = ("layout_memory",) if layout and "layout_memory" in modules else ()
    return ("text_encoder", *glyphs, "xfnet", *layout, *memory)


def check_glyphs(modules: Mapping[str, nn.Module], length: int) -> None:
    """Raise ValueError unless the system reads glyphs with all it takes, or not at all.

    `length` is the number of bytes it reads, 0 for none.
    """
    encoder, joins = modules.get("glyph_encoder"), "xfnet" in modules and bool(modules["xfnet"].glyphs)
    parts = {"a glyph_encoder": encoder is not None, "xfnet.glyphs": joins, "a glyph_length above 0": length > 0}
    has, lacks = ([part for part, there in parts.items() if there is wanted] for wanted in (True, False))
    if has and lacks:
        raise ValueError(
            f"this system has {' and '.join(has)} but not {' and '.join(lacks)}: quoted text needs all three, or none"
        )
    if encoder is not None and encoder.vocab_size < BYTE_IDS:
        raise ValueError(
            f"glyph_encoder.vocab_size is {encoder.vocab_size}, the ids of bytes go up to {BYTE_IDS - 1}: "
            f"set it to at least {BYTE_IDS} (ByT5's is 384)"
        )
