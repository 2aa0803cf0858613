"""Our CLIP score: of each picture with what the model was given, with others' prompts, and of faultless pictures."""

import numpy as np

from dalle3_jax.captioning import CaptionModel
from dalle3_jax.evaluation.checks import ImageReading
from dalle3_jax.evaluation.clip_score import measure_similarity, similarity_markdown
from dalle3_jax.evaluation.outcomes import Outcome, Truth
from dalle3_jax.evaluation.prompts import Labels, Prompt
from dalle3_jax.reading.scene_reader import SceneReading

AXES = {"a": 0, "b": 1, "long a": 2}
SIGHT = ImageReading(SceneReading("beach", "3d", ()), None, (4, 4))


class Double(CaptionModel):
    """Vectors by name: a picture is full of the number of its axis."""

    def __init__(self):
        """Needs no release."""

    def image_vectors(self, images, batch_size=64):
        return np.eye(3, dtype=np.float32)[[int(image[0, 0, 0]) for image in images]]

    def text_vectors(self, texts, batch_size=64):
        return np.eye(3, dtype=np.float32)[[AXES[text] for text in texts]]


def picture(axis):
    return np.full((4, 4, 3), axis, np.uint8)


def outcome(text, axis, protocol="short", upsampled=""):
    prompt = Prompt("x", "one object", text, Labels(), upsampled=upsampled)
    return Outcome(prompt, protocol, 0, 0, picture(axis), SIGHT, {})


def truth(text, axis):
    return Truth(Prompt("x", "one object", text, Labels()), picture(axis), picture(axis), SIGHT, SIGHT)


def test_pictures_are_compared_with_their_own_prompts_and_with_others():
    found = measure_similarity(Double(), [outcome("a", 0), outcome("b", 1)], [truth("a", 0), truth("a", 1)])
    assert (found.model.value, found.shuffled, found.true) == (100.0, 0.0, 50.0)
    worse = measure_similarity(Double(), [outcome("a", 1), outcome("b", 1)], [])
    assert (worse.model.value, worse.true) == (50.0, None)
    assert "| short   | 50.0" in similarity_markdown({"short": worse})


def test_what_the_model_was_given_counts():
    given = [outcome("a", 2, "upsampled", "long a"), outcome("a", 2, "upsampled", "long a")]
    assert measure_similarity(Double(), given, []).model.value == 100.0
