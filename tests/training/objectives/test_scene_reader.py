"""The reader's objective against what it should mind, and the spoiling of pictures against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dalle3_jax.data.batches import make_batches
from dalle3_jax.data.records import Record
from dalle3_jax.models.scene_reader import SceneLogits, SceneReader
from dalle3_jax.stages.reader import record_targets
from dalle3_jax.training.objectives import scene_reader
from dalle3_jax.training.objectives.scene_reader import (
    box_targets,
    centre_cells,
    degrade_images,
    focal_loss,
    heat_targets,
    loss_and_metrics,
    scene_reader_loss,
)
from tests.networks import normal

KEY = jax.random.key(0)
ROWS, COLUMNS, CLASSES = 4, 6, (5, 3, 2, 4)
NETWORK = SceneReader(
    **{
        field: tuple(map(str, range(n)))
        for field, n in zip(("concepts", "tints", "styles", "backgrounds"), CLASSES, strict=True)
    },
    channels=(16, 16, 16),
    blocks=(1, 1, 1),
    hidden=32,
)


def batch_of(*, b: int = 4, n: int = 3, seed: int = 0) -> dict[str, jax.Array]:
    """Labels of pictures with two objects in three slots, the third empty; the last picture shows nothing."""
    rng = np.random.default_rng(seed)
    valid = np.broadcast_to([True, True, False], (b, n)).copy()
    valid[-1] = False
    centres = np.stack([rng.choice([0.2, 0.5, 0.8], n, replace=False) for _ in range(2 * b)]).reshape(b, 2, n)
    drawn = {
        "valid": valid,
        "centres": centres.swapaxes(1, 2).astype(np.float32),
        "sides": rng.uniform(0.2, 0.4, (b, n)).astype(np.float32),
        "concepts": rng.integers(0, 5, (b, n), np.int32),
        "tints": rng.integers(0, 3, (b, n), np.int32),
        "style": rng.integers(0, 2, b, np.int32),
        "background": rng.integers(0, 4, b, np.int32),
    }
    return {name: jnp.asarray(value) for name, value in drawn.items()}


BATCH = batch_of()
CELLS = centre_cells(BATCH["centres"], ROWS, COLUMNS)


def sight_of(seed: int = 0) -> SceneLogits:
    """A network's random answer for the batch."""
    b, n = CELLS.shape
    shapes = ((b, ROWS, COLUMNS), (b, n, 5), (b, n, 3), (b, n, 3), (b, n, 2), (b, 4), (b, 7))
    return SceneLogits(*(normal(*shape, seed=seed + i) for i, shape in enumerate(shapes)))


def perfect(certainty: float = 20.0) -> SceneLogits:
    """The answer that is right in everything."""
    batch, hot = BATCH, lambda numbers, size: certainty * jax.nn.one_hot(numbers, size)
    peaks = heat_targets(CELLS, BATCH["sides"], BATCH["valid"], ROWS, COLUMNS) == 1.0
    return SceneLogits(
        jnp.where(peaks, certainty, -certainty),
        hot(batch["concepts"], 5),
        hot(batch["tints"], 3),
        box_targets(batch["centres"], batch["sides"], ROWS, COLUMNS),
        hot(jnp.broadcast_to(batch["style"][:, None], CELLS.shape), 2),
        hot(batch["background"], 4),
        jnp.zeros((4, 7)),
    )


def test_a_perfect_answer_costs_nothing_and_is_all_right():
    loss, metrics = loss_and_metrics(perfect(), CELLS, BATCH)
    assert 0.0 <= loss < 1e-4
    assert all(metrics[name] == 1.0 for name in ("found", "concepts", "tints", "styles", "backgrounds"))


@pytest.mark.parametrize("output", ["heat", "concepts", "tints", "boxes", "styles", "backgrounds"])
def test_loss_falls_as_an_output_moves_to_the_truth(output):
    sight = sight_of()
    start, goal = getattr(sight, output), getattr(perfect(4.0), output)
    steps = [sight._replace(**{output: start + share * (goal - start)}) for share in (0.0, 0.3, 0.6, 1.0)]
    losses = [float(loss_and_metrics(step, CELLS, BATCH)[0]) for step in steps]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 4


def test_slots_that_are_not_valid_change_nothing():
    empty = ~BATCH["valid"]
    other = {
        **BATCH,
        "centres": jnp.where(empty[..., None], 0.9, BATCH["centres"]),
        "sides": jnp.where(empty, 0.7, BATCH["sides"]),
        "concepts": jnp.where(empty, 1, BATCH["concepts"]),
        "tints": jnp.where(empty, 2, BATCH["tints"]),
    }
    sight = sight_of()
    spoiled = sight._replace(
        **{
            name: jnp.where(empty[..., None], 9.0, getattr(sight, name))
            for name in ("concepts", "tints", "boxes", "styles")
        }
    )
    cells = centre_cells(other["centres"], ROWS, COLUMNS)
    for one, two in zip(
        jax.tree.leaves(loss_and_metrics(sight, CELLS, BATCH)),
        jax.tree.leaves(loss_and_metrics(spoiled, cells, other)),
        strict=True,
    ):
        np.testing.assert_allclose(one, two, rtol=1e-6)


def test_the_background_of_nothing_is_asked():
    sight = sight_of()
    changed = sight._replace(backgrounds=sight.backgrounds.at[-1].set(-sight.backgrounds[-1]))
    assert loss_and_metrics(changed, CELLS, BATCH)[0] != loss_and_metrics(sight, CELLS, BATCH)[0]


def test_pictures_of_nothing_have_a_finite_loss_and_gradient():
    batch = {**BATCH, "valid": jnp.zeros_like(BATCH["valid"])}
    loss, gradient = jax.value_and_grad(lambda sight: loss_and_metrics(sight, CELLS, batch)[0])(sight_of())
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert (gradient.heat > 0).all()


def test_centres_fall_into_their_cells_and_boxes_lead_back():
    centres = jnp.array([[[0.0, 0.0], [0.99, 0.99], [0.5, 0.25], [1.0, 1.0]]])
    sides = jnp.array([[0.1, 0.5, 1.0, 0.25]])
    cells = centre_cells(centres, ROWS, COLUMNS)
    assert cells.tolist() == [[0, 23, 9, 23]]
    down, across, side = jnp.moveaxis(box_targets(centres, sides, ROWS, COLUMNS), -1, 0)
    np.testing.assert_allclose((cells // COLUMNS + 0.5 + down) / ROWS, centres[..., 1], atol=1e-6)
    np.testing.assert_allclose((cells % COLUMNS + 0.5 + across) / COLUMNS, centres[..., 0], atol=1e-6)
    np.testing.assert_allclose(jnp.exp(side) / ROWS, sides, rtol=1e-6)


def test_heat_is_one_at_centres_only_and_wider_for_larger_objects():
    cells, valid = jnp.array([[0, 23]]), jnp.array([[True, True]])
    small, large = (heat_targets(cells, jnp.full((1, 2), side), valid, ROWS, COLUMNS)[0] for side in (0.3, 3.0))
    assert (np.argwhere(small == 1.0) == [[0, 0], [3, 5]]).all()
    assert large[0, 1] == pytest.approx(np.exp(-1 / (2 * 1.5**2)), rel=1e-5)
    assert small[0, 1] < large[0, 1] < 1.0
    assert large[0, 1] == large[1, 0] == large[3, 4]


def test_focal_loss_is_centernets():
    wanted = jnp.array([[[1.0, 0.5, 0.0]]])
    heat = jnp.array([[[0.4, -0.3, -1.2]]])
    p, y = 1 / (1 + np.exp(-np.asarray(heat[0, 0]))), np.asarray(wanted[0, 0])
    expected = -((1 - p[0]) ** 2) * np.log(p[0]) - ((1 - y) ** 4 * p**2 * np.log(1 - p))[1:].sum()
    np.testing.assert_allclose(focal_loss(heat, wanted), expected, rtol=1e-5)
    assert focal_loss(jnp.full_like(heat, -80.0), wanted) == pytest.approx(80.0)


def kinds(key: jax.Array, b: int) -> np.ndarray:
    """What `degraded` does to each picture."""
    return np.asarray(jax.random.randint(jax.random.split(key, 4)[0], (b, 1, 1), 0, 5)).ravel()


def test_a_fifth_of_the_pictures_stays_and_the_rest_changes_within_the_range_of_pixels():
    images = jax.device_put(np.float32(np.random.default_rng(0).uniform(-1, 1, (100, 16, 24, 3))))
    found = np.asarray(degrade_images(images, KEY))
    changed = np.abs(found - images).max(axis=(1, 2, 3))
    kind = kinds(KEY, 100)
    assert (changed[kind == 0] < 1e-6).all()
    assert (changed[kind > 0] > 1e-2).mean() > 0.9  # what is drawn near nothing changes next to nothing
    assert np.abs(found).max() <= 1.0
    assert (np.bincount(kind, minlength=5) > 8).all()


def test_flat_pictures_stay_flat_unless_noisy():
    images = jnp.full((60, 16, 24, 3), 0.5)
    spread = np.asarray(degrade_images(images, KEY)).std(axis=(1, 2, 3))
    noisy = kinds(KEY, 60) == 3
    assert (spread[~noisy] < 1e-6).all()
    assert (spread[noisy] > 1e-4).all()
    assert spread.max() < scene_reader.NOISE


def test_rescaling_by_one_and_blurring_by_nothing_change_nothing():
    ones = jnp.ones((1, 1, 1))
    np.testing.assert_allclose(scene_reader.rescale_matrices(12, ones)[0], np.eye(12), atol=1e-6)
    np.testing.assert_allclose(scene_reader.blur_matrices(12, 0.0 * ones)[0], np.eye(12), atol=1e-6)


def test_rescaling_is_that_of_resizing():
    line = normal(1, 12)
    there = jax.image.resize(line, (1, 6), "linear")
    back = jax.image.resize(there, (1, 12), "linear")
    np.testing.assert_allclose(line @ scene_reader.rescale_matrices(12, jnp.full((1, 1, 1), 2.0))[0].T, back, atol=1e-5)


def test_one_picture_in_eight_goes_through_the_autoencoder(monkeypatch):
    monkeypatch.setattr(scene_reader, "degrade_images", lambda images, key: images)
    seen = {}

    def read(params, images, cells):
        seen["images"] = images
        return sight_of()

    images = jax.device_put(np.float32(np.random.default_rng(0).uniform(-1, 1, (4, 32, 48, 3))))
    networks = {"reader": read, "vae": lambda weight, images: weight * images}
    scene_reader_loss(networks, 8)({"reader": {}}, {"vae": jnp.float32(0.5)}, {**BATCH, "images": images}, KEY)
    np.testing.assert_array_equal(seen["images"], images.at[0].multiply(0.5))


def test_a_handful_of_pictures_is_learnt():
    rng = np.random.default_rng(0)
    images = jax.device_put(np.float32(rng.uniform(-1, 1, (4, 32, 48, 3))))
    batch = {**BATCH, "images": images}
    params = {"reader": jax.jit(NETWORK.init)(KEY, images)["params"]}
    loss_fn = scene_reader_loss({"reader": lambda params, *inputs: NETWORK.apply({"params": params}, *inputs)}, 8)
    optimizer = optax.adam(5e-3)

    @jax.jit
    def step(params, state):
        # One key: the same spoiling again and again, which is what a handful means.
        (_, metrics), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params, {}, batch, KEY)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, metrics

    state = optimizer.init(params)
    for _ in range(80):
        params, state, metrics = step(params, state)
    assert all(metrics[name] == 1.0 for name in ("found", "tints", "styles", "backgrounds"))
    assert metrics["loss_box"] < 0.5


NAMED = SceneReader(("cat", "dog"), ("natural", "red"), ("3d", "flat"), ("beach", "snow"))


def record_of(*objects: dict, style: str = "flat") -> Record:
    labels = {"objects": list(objects), "style": style, "background": "snow"}
    return Record("one", b"", 64, 128, labels=labels)


def test_a_record_becomes_numbers_in_slots():
    cat, dog = ({"concept": name, "box": [0.25, 0.1, 0.5, 0.6]} for name in ("cat", "dog"))
    row = record_targets(NAMED)(record_of(cat, {**dog, "tint": "red"}))
    assert row["valid"].tolist() == [True, True] + [False] * 7
    assert row["concepts"][:2].tolist() == [0, 1]
    assert row["tints"][:2].tolist() == [0, 1]
    np.testing.assert_allclose(row["centres"][:2], [[0.375, 0.35]] * 2, rtol=1e-6)
    assert row["sides"][0] == pytest.approx(0.5)
    assert (row["style"], row["background"]) == (1, 1)
    assert {name: (value.shape, value.dtype.name) for name, value in row.items()} == {
        name: (value.shape, value.dtype.name) for name, value in record_targets(NAMED)(record_of()).items()
    }


def test_more_objects_than_slots_are_refused():
    with pytest.raises(ValueError, match="one shows 10 objects, the stage has room for 9"):
        record_targets(NAMED)(record_of(*[{"concept": "cat", "box": [0, 0, 0.1, 0.1]}] * 10))


def test_batches_hold_what_is_made_of_their_records():
    data = {"size": (32, 32), "seed": 3}
    made = make_batches(
        data, tokenize=None, batch_size=4, seed=0, targets=lambda record: {"said": np.array(record.key)}
    )
    batch = next(made)
    assert set(batch) == {"images", "said"}
    assert batch["said"].tolist() == [f"first-train-3-{index}" for index in range(4)]
