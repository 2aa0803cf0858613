"""A SentencePiece model, T5's `spiece.model`, as the text of a tokenizer.json that gives the same ids."""

import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

__all__ = ["EXTRA_IDS", "sentencepiece_json"]

EXTRA_IDS = 100
"""Sentinels that T5's tokenizer adds behind the pieces of its model."""

UNIGRAM, NORMAL, UNKNOWN, BYTE = 1, 1, 2, 6  # of sentencepiece_model.proto: the kind of a model, and kinds of pieces
SPACE = "\u2581"


def sentencepiece_json(content: bytes, name: str, extra_ids: int = EXTRA_IDS) -> str:
    """The text of the tokenizer.json of a SentencePiece unigram model, with `extra_ids` sentinels behind its pieces.

    Control pieces such as </s> are special tokens, as the public library has them. ValueError, which calls the model
    `name`, where it is none, of another kind, or the libraries of the extra are not installed.
    """
    try:
        from google.protobuf.message import DecodeError
        from sentencepiece import sentencepiece_model_pb2
    except ImportError as error:
        raise ValueError(f"{name} needs {error.name}: pip install 'dalle3_jax[sentencepiece]'") from None
    model = sentencepiece_model_pb2.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise ValueError(f"{name} is no SentencePiece model, or damaged: fetch it again") from None
    if not model.pieces or model.trainer_spec.model_type != UNIGRAM:
        raise ValueError(
            f"{name} is no unigram model of SentencePiece, which T5 has: name a folder with tokenizer.json"
        )
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    known = {piece for piece, _ in pieces}
    sentinels = [f"<extra_id_{number}>" for number in reversed(range(extra_ids))]
    sentinels = [] if known & set(sentinels) else sentinels
    vocabulary = [*pieces, *((sentinel, 0.0) for sentinel in sentinels)]
    unknown = next((place for place, piece in enumerate(model.pieces) if piece.type == UNKNOWN), None)
    fallback = any(piece.type == BYTE for piece in model.pieces)
    backend = tokenizers.Tokenizer(models.Unigram(vocabulary, unknown, fallback))
    backend.normalizer = _normalizer(model.normalizer_spec)
    scheme = "always" if model.normalizer_spec.add_dummy_prefix else "never"
    split = model.trainer_spec.split_by_whitespace
    backend.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, scheme, split)
    special = [piece.piece for piece in model.pieces if piece.type not in (NORMAL, BYTE)]
    backend.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in [*special, *sentinels]])
    return backend.to_str()


def _normalizer(spec: object) -> normalizers.Normalizer:
    """The normaliser of a model's normalizer_spec, for texts before they are cut into pieces."""
    parts: list[normalizers.Normalizer] = []
    if charsmap := getattr(spec, "precompiled_charsmap", b""):
        parts.append(normalizers.Precompiled(charsmap))
    if getattr(spec, "remove_extra_whitespaces", True):
        parts += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace(Regex("^ | $"), "")]
    return normalizers.Sequence(parts)
