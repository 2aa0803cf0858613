"""Writing captions: greedy, drawn and beams against what the network says of whole texts; batches change nothing."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.captioning import CaptionDecoding, CaptionModel
from dalle3_jax.captioning.choosing import sample_nucleus
from dalle3_jax.captioning.loop import best_texts, decode_tokens, start_decoding
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.models.captioner import Captioner
from dalle3_jax.models.clip import Tower
from tests.networks import randomised
from tests.tiny import tokenizer_json

EOS, LENGTH, VOCAB = 5, 6, 7
TOWER = Tower(8, 1, 2, 16, "gelu")
CAPTIONER = Captioner(
    TOWER, TOWER, TOWER, VOCAB, LENGTH, image_size=(8, 8), patch=4, projection=4, queries=0, eos_id=EOS
)
INPUTS = jnp.zeros((1, LENGTH), int), jnp.ones((1, LENGTH), bool), jnp.zeros((1, 8, 8, 3))
PICTURES = np.random.default_rng(0).normal(size=(9, 8, 8, 3)).astype(np.float32)


@functools.cache
def random_params():
    return jax.tree.map(lambda x: np.float32(1.5) * np.asarray(x), randomised(CAPTIONER, *INPUTS))


@jax.jit
def logits_of(ids, images):
    return CAPTIONER.apply({"params": random_params()}, ids, jnp.ones_like(ids, bool), images).logits


def likelihood(text, image):
    """The log likelihood of a text of ids under the network, all at once."""
    ids = np.zeros((1, LENGTH), int)
    ids[0, 1 : len(text)] = text[:-1]
    each = jax.nn.log_softmax(logits_of(ids, image[None]))[0]
    return float(sum(each[t, token] for t, token in enumerate(text)))


def written(decoding, images=PICTURES, seeds=None, steps=LENGTH):
    keys = jax.vmap(jax.random.key)(np.arange(len(images), dtype=np.uint32) if seeds is None else seeds)
    how = {"module": CAPTIONER, "decoding": decoding}
    state = start_decoding(random_params(), images, keys, np.arange(len(images), dtype=np.int32), np.int32(0), **how)
    for _ in range(0, LENGTH, steps):
        state = decode_tokens(random_params(), state, np.int32(steps), **how)
    tokens, lengths = map(np.asarray, best_texts(state, decoding=decoding))
    return [tuple(row[:n].tolist()) for row, n in zip(tokens, lengths, strict=True)], state


@functools.lru_cache
def greedy():
    return written(CaptionDecoding())[0]


def test_greedy_takes_the_likeliest_token_each_time():
    for text, image in zip(greedy(), PICTURES, strict=True):
        ids = np.zeros((1, LENGTH), int)
        ids[0, 1 : len(text)] = text[:-1]
        assert tuple(logits_of(ids, image[None])[0, : len(text)].argmax(-1).tolist()) == text
        assert EOS not in text[:-1]
        assert text[-1] == EOS or len(text) == LENGTH


def test_texts_of_several_lengths_are_among_them():
    """Otherwise the tests of stopping and packing would say nothing."""
    assert len({len(text) for text in greedy()}) > 1


def test_the_number_of_tokens_written_at_a_time_changes_nothing():
    assert written(CaptionDecoding(), steps=1)[0] == greedy()
    assert written(CaptionDecoding("beam"), steps=2)[0] == written(CaptionDecoding("beam"))[0]


def test_one_beam_is_greedy():
    assert written(CaptionDecoding("beam", beams=1))[0] == greedy()


def test_enough_beams_find_the_likeliest_text_of_all():
    length = 3
    texts, state = written(CaptionDecoding("beam", beams=VOCAB, length=length), PICTURES[:3])
    tokens = [token for token in range(VOCAB) if token != EOS]
    known = [(*head, EOS) for n in range(length) for head in itertools.product(tokens, repeat=n)]
    known += [*itertools.product(tokens, repeat=length)]
    for i, image in enumerate(PICTURES[:3]):
        best = max(known, key=lambda text: likelihood(text, image))
        assert texts[i] == best
        np.testing.assert_allclose(np.asarray(state.scores)[i].max(), likelihood(best, image), atol=1e-4)


def test_beams_are_at_least_as_likely_as_greedy():
    for beam, single, image in zip(written(CaptionDecoding("beam"))[0], greedy(), PICTURES, strict=True):
        assert likelihood(beam, image) >= likelihood(single, image) - 1e-4


def test_a_penalty_on_length_prefers_longer_texts():
    short, long = (written(CaptionDecoding("beam", length_penalty=p))[0] for p in (0.0, 3.0))
    assert sum(map(len, long)) > sum(map(len, short))


def test_little_chance_draws_the_likeliest_and_seeds_draw_alike_anywhere():
    assert written(CaptionDecoding("top_p", top_p=1e-6))[0] == greedy()
    drawn = CaptionDecoding("top_p", top_p=0.95)
    seeds = np.arange(9, dtype=np.uint32)
    together = written(drawn, seeds=seeds)[0]
    assert written(drawn, PICTURES[::-1], seeds[::-1])[0] == together[::-1]
    assert together != written(drawn, seeds=seeds + 100)[0]


def test_the_nucleus_holds_the_fewest_tokens_of_that_chance():
    chances = jnp.asarray([0.5, 0.3, 0.15, 0.05])
    keys = jax.vmap(jax.random.key)(jnp.arange(2000, dtype=jnp.uint32))
    rows = jnp.broadcast_to(jnp.log(chances), (2000, 4))
    drawn = np.asarray(sample_nucleus(rows, keys, jnp.zeros(2000, int), 1.0, 0.75))
    assert set(drawn.tolist()) == {0, 1}
    assert abs(np.mean(drawn == 0) - 0.5 / 0.8) < 0.04
    cold = np.asarray(sample_nucleus(rows, keys, jnp.zeros(2000, int), 0.5, 1.0))
    assert abs(np.mean(cold == 0) - 0.25 / (0.25 + 0.09 + 0.0225 + 0.0025)) < 0.04


@pytest.fixture(scope="module")
def model():
    captioner = CAPTIONER.clone(vocab_size=300)
    params = jax.tree.map(lambda x: np.float32(1.5) * np.asarray(x), randomised(captioner, *INPUTS))
    return CaptionModel(Release({"captioner": captioner}, {"captioner": params}, tokenizer=tokenizer_json()))


def test_batches_and_their_packing_change_no_caption(model, monkeypatch):
    pictures = list(np.random.default_rng(1).integers(0, 256, (11, 8, 8, 3), np.uint8))
    alone = [
        model.captions([picture], CaptionDecoding("top_p"), seeds=[i], batch_size=2)[0]
        for i, picture in enumerate(pictures)
    ]
    monkeypatch.setattr("dalle3_jax.captioning.model.SEGMENT", 1)
    assert model.captions(pictures, CaptionDecoding("top_p"), batch_size=2) == alone
    assert model.captions(pictures, CaptionDecoding("top_p"), batch_size=4) == alone
    assert len(set(alone)) > 5


def test_pictures_of_other_sizes_are_read_whole(model):
    large = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)
    assert model.prepare_images([large]).shape == (1, 8, 8, 3)
    assert abs(model.prepare_images([large]).mean() - (large / 127.5 - 1).mean()) < 0.05
    assert isinstance(model.captions([large], batch_size=2)[0], str)


def test_similarity_is_100_times_the_cosine(model):
    pictures = list(np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8))
    texts = ["a", "ab", "abc", "", "b"]
    found = model.similarity(pictures, texts, batch_size=2)
    vectors = model.image_vectors(pictures), model.text_vectors(texts)
    np.testing.assert_allclose(found, 100 * np.einsum("nv,nv->n", *vectors), rtol=1e-5)
    assert np.all(np.abs(found) <= 100.001)
    assert np.ptp(found) > 1
    with pytest.raises(ValueError, match="a list with the text of every picture"):
        model.similarity(pictures, texts[:2])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"method": "best"}, "method 'best': use greedy, top_p, beam"),
        ({"temperature": 0.0}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"beams": 0, "length": -1}, "at least 1 beam"),
    ],
)
def test_decodings_that_make_no_sense_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        CaptionDecoding(**wrong)
