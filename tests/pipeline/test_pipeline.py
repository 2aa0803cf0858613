"""A picture is its request: the same whatever stands beside it, made as the equations say, compiled once."""

import dataclasses
import json
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dalle3_jax.checkpoints.releases import Release, save_release
from dalle3_jax.loading.locate import DEMO, find_release
from dalle3_jax.models.condition import Condition
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.png import GeneratedImage, a1111_parameters, read_metadata, to_pixels
from dalle3_jax.pipeline.programs import steps_per_chunk
from dalle3_jax.pipeline.request import SETTINGS, request_from_metadata
from dalle3_jax.pipeline.revision import truncation_notices
from tests.tiny import tiny_release

PICTURE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
BATCH = 2  # most tests share the programs of this batch size, 16x16 pixels and 4 steps of ddim


def pixels(picture: GeneratedImage) -> np.ndarray:
    return np.asarray(picture.image, np.int16)


@contextmanager
def counted_compilations():
    """A list that grows by one entry for each program that XLA compiles."""
    compiled = []

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(details.get("fun_name", event))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


jitted = jax.jit(
    lambda module, params, *inputs, method: module.apply(params, *inputs, method=method),
    static_argnums=0,
    static_argnames="method",
)


def by_hand(release: Release, prompt: str, negative: str, seed: int, scale: float, steps: int) -> np.ndarray:
    """The picture as the equations say it: no batches, no programs, cosine schedule, v prediction, DDIM."""
    pipeline = Pipeline(release)

    def apply(name: str, *inputs, method: str | None = None):
        return jitted(release.modules[name], {"params": release.params[name]}, *inputs, method=method)

    def condition(text: str) -> Condition:
        ids, mask = map(jnp.asarray, pipeline.tokenizer([text], release.text["length"]))
        return apply("xfnet", apply("text_encoder", ids, mask), mask)

    def signal(t: float) -> tuple[float, float]:
        alpha = np.cos((t + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)
        alpha = max(alpha, 4.928e-5)
        return alpha, np.sqrt(1 - alpha**2)

    text, null = condition(prompt), condition(negative)
    height, width = release.sizes[0]
    sizes = jnp.asarray([[height, width, 0, 0, height, width]], jnp.float32)
    key = jax.random.key(seed)
    x = jax.random.normal(jax.random.fold_in(key, 0), (1, height // 8, width // 8, 2))
    for index in range(steps):
        t, s = 1 - index / steps, 1 - (index + 1) / steps
        (alpha, sigma), (alpha_s, sigma_s) = signal(t), signal(s)
        v, v_null = (apply("unet", x, jnp.full(1, 1000 * t), given, sizes) for given in (text, null))
        v = v_null + scale * (v - v_null)
        x0, eps = alpha * x - sigma * v, sigma * x + alpha * v
        x = alpha_s * x0 + sigma_s * eps
    latent = pipeline.system.latent
    means = x / jnp.asarray(latent.scale) + jnp.asarray(latent.shift)
    image = apply("vae", means, method="decode")
    return np.clip(np.asarray(image[0]) * 127.5 + 127.5, 0, 255)


@pytest.mark.parametrize(("negative", "scale"), [("", 2.0), ("snow", 3.5), ("", 1.0)])
def test_a_picture_is_what_the_equations_say(pipeline, negative, scale):
    [picture] = pipeline("a panda", seed=11, negative_prompt=negative, guidance_scale=scale, batch_size=BATCH)
    expected = by_hand(pipeline.release, "a panda", negative, 11, scale, 4)
    assert expected.std() > 20, "the test would not see a difference"
    np.testing.assert_allclose(pixels(picture), expected, atol=0.6)


def test_picture_i_of_a_call_has_seed_plus_i(pipeline):
    made = pipeline(["a panda", "two cats"], n=2, seed=5, batch_size=BATCH)
    assert [(picture.prompt, picture.seed) for picture in made] == [
        *[("a panda", 5), ("a panda", 6)],
        *[("two cats", 7), ("two cats", 8)],
    ]
    [alone] = pipeline("two cats", seed=8, batch_size=BATCH)
    np.testing.assert_array_equal(pixels(alone), pixels(made[3]))
    assert (pixels(made[0]) != pixels(made[1])).any()


def test_a_picture_is_the_same_bits_whatever_stands_beside_it(pipeline):
    [alone] = pipeline("a fox", seed=3, batch_size=BATCH)
    first = pipeline(["a fox", "an owl"], seed=3, guidance_scale=2.0, batch_size=BATCH)[0]
    second = pipeline(["x" * 20, "a fox"], seed=2, batch_size=BATCH)[1]
    third = pipeline(["a", "b", "a fox"], seed=1, batch_size=BATCH)[2]
    for other in (first, second, third):
        np.testing.assert_array_equal(pixels(other), pixels(alone))


def test_a_picture_of_another_batch_size_is_within_one_level(pipeline):
    [here], [there] = (pipeline("a fox", seed=3, batch_size=size) for size in (BATCH, 3))
    assert (np.abs(pixels(here) - pixels(there)) <= 1).mean() > 0.999


def test_the_prompt_the_seed_and_the_negative_prompt_matter(pipeline):
    base = pixels(pipeline("a fox", seed=3, batch_size=BATCH)[0])
    for prompt, settings in [("a box", {}), ("a fox", {"seed": 4}), ("a fox", {"negative_prompt": "an owl"})]:
        other = pixels(pipeline(prompt, **{"seed": 3, "batch_size": BATCH, **settings})[0])
        assert (other != base).mean() > 0.2, settings


@pytest.mark.filterwarnings("ignore:.* no effect:UserWarning")
def test_guidance_of_one_is_conditional(pipeline):
    made = [
        pixels(pipeline("a fox", guidance_scale=scale, negative_prompt=negative, batch_size=BATCH, **more)[0])
        for scale, negative, more in [
            *[(1.0, "", {}), (1.0, "an owl", {})],
            (7.0, "an owl", {"guidance_interval": (2.0, 3.0)}),  # never in force
        ]
    ]
    assert max(np.abs(other - made[0]).max() for other in made) <= 1


def test_nothing_but_shapes_and_sampler_compiles(pipeline):
    """For another number of steps or spacing only its times are: a table of numbers."""
    pipeline(["warm", "up"], batch_size=BATCH)
    pipeline.edit(PICTURE, "a fox", strength=0.5, batch_size=BATCH)
    pipeline.edit(PICTURE, "a fox", source_prompt="a cat", strength=0.5, batch_size=BATCH)
    with counted_compilations() as compiled:
        pipeline(["a panda", "two cats", "an owl"], n=3, seed=77, guidance_scale=5.0, batch_size=BATCH)
        pipeline("x" * 20, negative_prompt="fog", guidance_rescale=0.5, guidance_interval=(0.0, 2.0), batch_size=BATCH)
        other = jax.tree.map(lambda leaf: leaf, pipeline.release.params)
        Pipeline(dataclasses.replace(pipeline.release, params=other))("new weights", batch_size=BATCH)
    assert compiled == []
    with counted_compilations() as compiled:
        for steps in (2, 3, 7):
            pipeline("a fox", steps=steps, batch_size=BATCH, progress=lambda *report: None)
            pipeline.edit(PICTURE, "a fox", steps=steps, strength=0.7, batch_size=BATCH)
            pipeline.edit(PICTURE, "a fox", source_prompt="a cat", steps=steps, strength=0.7, batch_size=BATCH)
        pipeline("a fox", steps=5, spacing="trailing", batch_size=BATCH)
        pipeline("a fox", steps=5, spacing="karras", batch_size=BATCH)
    assert set(compiled) == {"jit(sampling_times)"}
    with counted_compilations() as compiled:
        pipeline("wider", size=(16, 48), batch_size=BATCH)  # a shape of no other test
    assert sorted(compiled) == ["jit(advance)", "jit(decode_latents)", "jit(start)"]


def test_a_text_is_encoded_once(pipeline, monkeypatch):
    fresh, encoded = Pipeline(pipeline.release), []
    monkeypatch.setattr(fresh.prompts, "encode", lambda texts: encoded.append(list(texts)) or pipeline.encode(texts))
    fresh(["a fox", "an owl", "a fox"], n=2, batch_size=BATCH)
    fresh("an owl", seed=5, batch_size=BATCH)
    assert {text for texts in encoded for text in texts} == {"a fox", "an owl", ""}
    assert sum(len(set(texts)) for texts in encoded) == 3
    assert {len(texts) for texts in encoded} == {BATCH}


def test_padding_reaches_nothing(pipeline):
    longer = Pipeline(dataclasses.replace(pipeline.release, text={"length": 32}))
    short, padded = pipeline.encode(["a fox", "an owl"]), longer.encode(["a fox", "an owl"])
    np.testing.assert_allclose(short.vector, padded.vector, atol=1e-5)
    count = pipeline.tokenizer.count("a fox")
    np.testing.assert_allclose(short.tokens[0, :count], padded.tokens[0, :count], atol=1e-5)
    assert int(padded.mask[0].sum()) == count


def test_progress_changes_nothing_and_counts_to_the_end(pipeline):
    seen = []
    made = pipeline(["a fox", "an owl", "a cat"], batch_size=BATCH, progress=lambda *report: seen.append(report))
    assert [report[:2] for report in seen] == [(done, 8) for done in range(1, 9)]
    assert seen[3][2].shape == (BATCH, 2, 2, 2)
    for one, other in zip(made, pipeline(["a fox", "an owl", "a cat"], batch_size=BATCH), strict=True):
        np.testing.assert_array_equal(pixels(one), pixels(other))
    preview = to_pixels(pipeline.codec.decode(seen[3][2]))  # at the last step the estimate is the picture
    assert np.abs(preview[0].astype(int) - pixels(made[0])).max() <= 1


@pytest.mark.parametrize(("steps", "count"), [(1, 1), (4, 1), (20, 2), (23, 1), (50, 5), (1000, 100)])
def test_chunks_divide_the_steps(steps, count):
    assert steps_per_chunk(steps) == count


def test_sizes_and_samplers_mix_in_one_call(pipeline):
    small = pipeline.request("a fox", seed=1)
    wide = pipeline.request("a fox", seed=1, size=(16, 32))
    made = dict(pipeline.generate([wide, small, wide], batch_size=BATCH))
    assert [made[index].image.size for index in range(3)] == [(32, 16), (16, 16), (32, 16)]
    assert made.keys() == {0, 1, 2}
    np.testing.assert_array_equal(pixels(made[0]), pixels(made[2]))


def test_a_long_prompt_is_cut_with_a_notice_that_counts(pipeline):
    long = "a fox " * 10
    with pytest.warns(UserWarning, match=r"'a fox a fox.*' has 61 tokens; this model reads the first 24"):
        [cut] = pipeline(long, batch_size=BATCH)
    assert cut.prompt == long
    [same] = pipeline(long[:23], batch_size=BATCH)
    np.testing.assert_array_equal(pixels(cut), pixels(same))


def test_notices_count_tokens_and_not_letters(pipeline):
    request = pipeline.request("🐼" * 6, negative_prompt="x" * 23)
    [notice] = truncation_notices([request], pipeline.release.text, pipeline.tokenizer)
    assert "has 25 tokens" in notice


@pytest.mark.parametrize("prompt", ["", "\0", "🐼", "a\0b" * 3, "\ud800"])
def test_any_prompt_makes_a_picture_that_tells_it(pipeline, tmp_path, prompt):
    [picture] = pipeline(prompt, batch_size=BATCH)
    picture.save(tmp_path / "x.png")
    assert read_metadata(tmp_path / "x.png")["prompt"] == prompt


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (20, 16)}, "16x20 is not a multiple of 8: use 16x16"),
        ({"size": (0, 16)}, "16x0 is no size"),
        ({"size": (16, 2**20)}, "is no size"),
        ({"sampler": "eulr"}, r"unknown sampler 'eulr': use one of ddim, .*dpmsolver\+\+"),
        ({"steps": 0}, "steps 0"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**32}, "seed 4294967296"),
        ({"guidance_scale": float("nan")}, "guidance scale nan"),
        ({"guidance_rescale": 2}, "guidance rescale 2"),
        ({"guidance_interval": (0.1, float("inf"))}, "guidance interval"),
        ({"sise": (16, 16)}, "unknown setting sise: known are steps, sampler, .*size"),
        ({"batch_size": 0}, "batch size of 0"),
        ({"n": 0}, "n of at least 1"),
        ({"steps": 0, "sampler": "x", "size": (9, 9)}, "steps 0.*unknown sampler.*9x9"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_computed(pipeline, settings, message):
    with counted_compilations() as compiled, pytest.raises(ValueError, match=message):
        pipeline("a fox", **settings)
    assert compiled == []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("size", 16, "16 is no size"),
        ("size", (16, 16, 3), "is no size"),
        ("size", (16.0, 16), "is no size"),
        ("steps", 2.5, "steps 2.5"),
        ("steps", True, "steps True"),
        ("seed", "7", "seed '7'"),
        ("guidance_scale", "high", "guidance scale 'high'"),
        ("guidance_interval", (0.1,), "guidance interval"),
        ("negative_prompt", 3, "must be text"),
        ("prompt", None, "must be text"),
    ],
)
def test_values_of_a_wrong_type_are_refused(pipeline, field, value, message):
    request = pipeline.request("a fox")
    *parts, name = SETTINGS[field].place.split(".")
    record = getattr(request, parts[0]) if parts else request
    object.__setattr__(record, name, value)  # past the shape checks that only tests have
    for refuse in (pipeline.check_requests, pipeline.generate):
        with pytest.raises(ValueError, match=message):
            refuse([request])


def test_whole_numbers_and_lists_are_the_same_request(pipeline):
    plain = pipeline.request("a fox", guidance_scale=3.0, guidance_interval=(0.0, 1.0), size=(16, 32))
    assert pipeline.request("a fox", guidance_scale=3, guidance_interval=[0, 1], size=[16, 32]) == plain
    same = pipeline.request("a fox", guidance_scale=3, guidance_interval=[0, 1], size=[16, 32])
    assert same.identity("") == plain.identity("")
    assert same.identity("other") != plain.identity("")


def test_no_prompts_are_refused(pipeline):
    with pytest.raises(ValueError, match="at least one prompt"):
        pipeline([])


def test_a_release_that_makes_no_pictures_is_refused():
    whole = tiny_release()
    parts = dataclasses.replace(whole, modules={"vae": whole.modules["vae"]})
    with pytest.raises(ValueError, match="lacks text_encoder, xfnet, unet"):
        Pipeline(parts)
    with pytest.raises(ValueError, match="tokenizer"):
        Pipeline(dataclasses.replace(whole, tokenizer=""))
    with pytest.raises(ValueError, match="schedule"):
        Pipeline(dataclasses.replace(whole, diffusion={"schedule": {"name": "none"}, "prediction": "v"}))


def test_a_checkpoint_is_demo_a_release_or_a_workdir(tmp_path):
    for name in ("run/base/release", "alone"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.json").touch()
    assert find_release("demo") == DEMO
    assert find_release(tmp_path / "alone") == tmp_path / "alone"
    for name in ("run", "run/base", "run/base/release"):
        assert find_release(tmp_path / name) == tmp_path / "run/base/release"
    with pytest.raises(ValueError, match=r"holds no release.*export"):
        find_release(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        find_release(str(tmp_path / "nowhere"))


def test_a_png_tells_how_it_was_made_in_both_forms(pipeline, tmp_path):
    [picture] = pipeline("a fox", negative_prompt="fog", seed=9, size=(16, 32), batch_size=BATCH)
    picture.save(tmp_path / "fox.png")
    made = read_metadata(tmp_path / "fox.png")
    assert made == picture.metadata
    assert request_from_metadata(made) == picture.request
    assert made["checkpoint"] == pipeline.release.digest
    assert made["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    with Image.open(tmp_path / "fox.png") as image:
        image.load()
        assert json.loads(image.info["dalle3_jax"]) == made
        text = image.info["parameters"]
        assert "trainedAlgorithmicMedia" in image.info["XML:com.adobe.xmp"]
        np.testing.assert_array_equal(np.asarray(image), pixels(picture))
    assert text.splitlines()[:2] == ["a fox", "Negative prompt: fog"]
    assert text.splitlines()[2].startswith(
        "Steps: 4, Sampler: DDIM, CFG scale: 2, Seed: 9, Size: 32x16, Model hash: " + made["checkpoint"][:10]
    )
    assert "Negative prompt" not in a1111_parameters(made | {"negative_prompt": ""})


def test_a_png_is_written_whole(pipeline, tmp_path, monkeypatch):
    [picture] = pipeline("a fox", batch_size=BATCH)
    picture.save(tmp_path / "fox.png")
    before = (tmp_path / "fox.png").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            picture.save(tmp_path / "fox.png")
    assert [path.name for path in tmp_path.iterdir()] == ["fox.png"]
    assert (tmp_path / "fox.png").read_bytes() == before


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(30)])
def test_settings_of_other_files_are_refused(tmp_path, data):
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"cannot read .*x\.png"):
        read_metadata(tmp_path / "x.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "plain.png")
    with pytest.raises(ValueError, match="does not say how it was made"):
        read_metadata(tmp_path / "plain.png")


def test_a_mesh_changes_nothing(pipeline, release_folder):
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    spread = Pipeline.load(release_folder, mesh=mesh)
    prompts = [f"a fox {index}" for index in range(mesh.size * 2)]
    assert {leaf.sharding.mesh for leaf in jax.tree.leaves(spread.params)} == {mesh}
    made = spread(prompts, batch_size=len(prompts))
    for one, other in zip(made, pipeline(prompts, batch_size=len(prompts)), strict=True):
        assert (np.abs(pixels(one) - pixels(other)) <= 1).mean() > 0.999


def test_pixels_are_rounded_and_clipped():
    values = np.array([-2, -1, -0.999, 0, 0.5, 1, 2])
    assert to_pixels(values).tolist() == [0, 0, 0, 128, 191, 255, 255]
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(FloatingPointError, match=r"no finite numbers.*lower the guidance scale"):
            to_pixels(np.array([0.0, value]))


def test_three_lines_make_a_picture(tmp_path):
    save_release(tmp_path / "release", tiny_release())
    pipeline = Pipeline.load(tmp_path / "release")
    pipeline("a panda on a beach", batch_size=BATCH)[0].save(tmp_path / "panda.png")
    with Image.open(tmp_path / "panda.png") as image:
        assert image.size == (16, 16)
