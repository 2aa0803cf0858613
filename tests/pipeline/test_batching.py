"""Batches hold what one program makes; the cache of prompts encodes a text once for each size of batch."""

import dataclasses

import numpy as np
import pytest

from dalle3_jax.models.condition import Condition
from dalle3_jax.pipeline.batching import default_batch_size, group_requests, program_key
from dalle3_jax.pipeline.prompt_cache import CACHED_TEXTS, PromptCache
from dalle3_jax.pipeline.request import SETTINGS, Request, make_request

SMALL = Request("a", (16, 16))
WIDE = Request("a", (16, 32))

VALUES = {
    **{"steps": 7, "sampler": "euler", "spacing": "karras", "guidance_scale": 1.0, "size": (16, 32)},
    **{"decoder": "refiner", "decoder_steps": 2, "decoder_temperature": 0.0, "tile": 160},
    **{"deep_cache": 2, "text_gate": 0.3, "guidance_parallel": 0.0, "guidance_norm": 9.0},
    **{"upscale": 2, "upscale_steps": 5, "upscale_noise_level": 20, "upscale_guidance_scale": 2.0, "upscale_tile": 64},
    "image": np.zeros((16, 16, 3), np.uint8),
}
"""Settings that are part of the program."""


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_compiled_is_the_key_of_a_program(name):
    others = {"prompt": "b", "seed": 3, "guidance_scale": 5.0, "guidance_interval": (0.0, 0.5)}
    others |= {"guidance_rescale": 0.5, "negative_prompt": "b", "original_prompt": "b"}
    others |= {
        "mask": np.eye(16, dtype=np.uint8),
        "strength": 0.5,
        "outpaint": "2:1",
        "feather": 2,
        "source_prompt": "b",
        "image_prompt_scale": 0.5,
    }
    value = VALUES.get(name, others.get(name))
    other = Request("b", (16, 16)) if name == "prompt" else make_request("a", {"size": (16, 16), name: value})
    assert (program_key(other) == program_key(SMALL)) == (name not in VALUES)


def test_edits_of_one_kind_that_begin_at_one_step_share_a_batch():
    image = np.zeros((16, 16, 3), np.uint8)

    def key(strength, **more):
        settings = {"size": (16, 16), "steps": 4, "image": image, "strength": strength, **more}
        return program_key(make_request("a", settings))

    assert key(0.5) == key(0.6, image=image + 1)
    assert key(0.5) != key(0.8)
    assert key(0.5) != key(0.5, outpaint="2:1")
    assert key(0.5, mask=np.eye(16, dtype=np.uint8)) == key(0.5, outpaint="2:1")


def test_batches_keep_the_order_and_hold_one_program():
    requests = [WIDE, SMALL, WIDE, dataclasses.replace(SMALL, seed=4), WIDE]
    assert group_requests(requests, 2) == [[0, 2], [4], [1, 3]]
    assert group_requests([], 2) == []


def test_default_batches_are_powers_of_two_that_hold_the_largest_group():
    for count, size in [(1, 1), (2, 2), (3, 4), (5, 8), (100, 8)]:
        assert default_batch_size([SMALL] * count + [WIDE]) == size
    assert [default_batch_size([SMALL], devices) for devices in (3, 16)] == [3, 16]
    assert default_batch_size([]) == 1


class Encoder:
    """Conditions that tell the text and the batch in which it was encoded, and all the batches."""

    def __init__(self):
        self.batches: list[list[str]] = []

    def __call__(self, texts):
        self.batches.append(list(texts))
        vector = np.asarray([[len(text), len(texts)] for text in texts], np.float32)
        return Condition(tokens=vector[:, None], mask=np.ones((len(texts), 1), bool), vector=vector)


def test_a_text_is_encoded_once_for_each_size_of_batch():
    encode = Encoder()
    cache = PromptCache(encode)
    first = cache.get(["a", "bb", "a"])
    np.testing.assert_array_equal(first.vector, [[1, 3], [2, 3], [1, 3]])
    cache.get(["bb", "bb", "a"])
    np.testing.assert_array_equal(cache.get(["a"]).vector, [[1, 1]])
    assert encode.batches == [["a", "bb", "bb"], ["a"]]


def test_what_is_kept_serves_batches_of_any_size():
    encode = Encoder()
    cache = PromptCache(encode)
    cache.keep(["a", "bb", "ccc"], 2)
    cache.keep(["a"], 2)
    assert encode.batches == [["a", "bb"], ["ccc", "ccc"]]
    assert cache.kept_texts == {"a", "bb", "ccc"}
    np.testing.assert_array_equal(cache.get(["ccc"]).vector, [[3, 2]])
    assert len(encode.batches) == 2


def test_the_texts_that_were_used_last_stay():
    encode = Encoder()
    cache = PromptCache(encode)
    for i in range(CACHED_TEXTS):
        cache.get([str(i)])
    cache.get(["0"])  # used again: "1" is the oldest now
    cache.get(["new"])
    encode.batches.clear()
    cache.get(["0"])
    assert encode.batches == []
    cache.get(["1"])
    assert encode.batches == [["1"]]
    many = [str(i) for i in range(CACHED_TEXTS + 5)]
    assert len(cache.get(many).vector) == CACHED_TEXTS + 5


def test_the_null_condition_is_zeros_where_the_model_was_trained_so():
    for zeros, expected in ((False, [[0, 2], [1, 2]]), (True, [[0, 0], [1, 2]])):
        encode = Encoder()
        cache = PromptCache(encode, zero_null=zeros)
        null = cache.get_null(["", "a"])
        np.testing.assert_array_equal(null.vector, expected)
        np.testing.assert_array_equal(null.tokens[:, 0], expected)
        assert null.mask.all()
        np.testing.assert_array_equal(cache.get(["", "a"]).vector, [[0, 2], [1, 2]])
