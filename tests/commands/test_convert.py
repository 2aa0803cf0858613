"""`dalle3-jax convert`: public folders become releases that make the same pictures, or one message says why not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from dalle3_jax.checkpoints.releases import load_release, save_release
from dalle3_jax.checkpoints.tensors import Tensors
from dalle3_jax.commands.convert import main
from dalle3_jax.loading.open import open_release
from dalle3_jax.pipeline import Pipeline
from tests import public_folders
from tests.public_folders import edit
from tests.tiny import clip_files


def pixels(folder: Path) -> np.ndarray:
    made = Pipeline.load(folder)(["a cat", "the dog"], seed=3, steps=2, batch_size=2)
    return np.stack([np.asarray(picture.image) for picture in made])


@pytest.mark.parametrize("name", ["sd_folder", "sdxl_folder"])
def test_a_release_of_a_folder_makes_its_pictures(name, request, tmp_path, capsys):
    folder = request.getfixturevalue(name)
    assert main([str(folder), str(tmp_path / "release")]) == 0
    parts = ", ".join(load_release(tmp_path / "release").modules)
    assert capsys.readouterr().out == f"{tmp_path / 'release'}: {parts} as float32\n"
    np.testing.assert_array_equal(pixels(tmp_path / "release"), pixels(folder))


def test_a_release_says_all_that_the_folder_says(sdxl_folder, tmp_path):
    assert main([str(sdxl_folder), str(tmp_path / "release")]) == 0
    found, source = load_release(tmp_path / "release"), open_release(sdxl_folder)
    assert found.modules == source.modules
    assert (found.latent, found.text, found.sizes) == (source.latent, source.text, source.sizes)
    assert (found.diffusion, found.sampling, found.tokenizer) == (source.diffusion, source.sampling, source.tokenizer)
    assert found.training == json.loads(json.dumps(source.training))
    assert not [path.name for path in tmp_path.iterdir() if path.name != "release"]


@pytest.mark.parametrize(("given", "stored"), [("bf16", "bfloat16"), ("float16", "float16"), (None, "float32")])
def test_weights_are_stored_as_asked_or_as_they_were(sd_folder, tmp_path, given, stored):
    assert main([str(sd_folder), str(tmp_path / "release"), *(["--dtype", given] if given else [])]) == 0
    kinds = {array.dtype.name for path in tmp_path.glob("release/*.safetensors") for array in Tensors(path).values()}
    assert kinds == {stored}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matrices_are_stored_in_8_bits_where_that_is_asked(dtype, tmp_path, capsys):
    source = public_folders.network(tmp_path / "t5", public_folders.T5, dtype)
    assert main([str(source), str(tmp_path / "release"), "--dtype", "int8"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'release'}: text_encoder as int8\n"
    save_release(tmp_path / "expected", open_release(source), "int8")  # read as float32, and rounded once
    found = load_release(tmp_path / "release")
    jax.tree.map(np.testing.assert_array_equal, found.params, load_release(tmp_path / "expected").params)
    for again in (["--dtype", "int8"], []):  # a release keeps its type, and its values
        assert main([str(tmp_path / "release"), str(tmp_path / "again"), *again]) == 0
        assert load_release(tmp_path / "again").digest == found.digest


def test_a_network_alone_becomes_a_release(tmp_path):
    source = public_folders.network(tmp_path / "t5", public_folders.T5, "bfloat16")
    assert main([str(source), str(tmp_path / "release")]) == 0
    found, before = load_release(tmp_path / "release"), open_release(source)
    assert found.modules == before.modules
    jax.tree.map(np.testing.assert_array_equal, found.params, before.params)
    assert not found.tokenizer


def test_an_older_release_is_replaced(sd_folder, release_folder, tmp_path):
    shutil.copytree(release_folder, tmp_path / "release")
    assert main([str(sd_folder), str(tmp_path / "release")]) == 0
    assert load_release(tmp_path / "release").training["pipeline"] == "StableDiffusionPipeline"


def other_words(folder: Path) -> None:
    """The second tokenizer with two ids exchanged."""
    vocab = json.loads(clip_files()[0])
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    (folder / "tokenizer_2" / "vocab.json").write_text(json.dumps(vocab))


def pickled(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))


def without(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


def edited(name: str, **changes: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / name, **changes)


def replaced(part: str, config: dict) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        shutil.rmtree(folder / part)
        public_folders.network(folder / part, config)

    return replace


def decoder_for_vae(folder: Path) -> None:
    replaced("vae", public_folders.DECODER)(folder)
    edit(folder / INDEX, vae=["diffusers", "ConsistencyDecoderVAE"])


INDEX, SCHEDULER = "model_index.json", "scheduler/scheduler_config.json"
XL = "StableDiffusionXLPipeline"
BROKEN = {
    "of another class": (edited(INDEX, _class_name="FluxPipeline"), "names the class 'FluxPipeline'; pipelines that"),
    "without a class": (edited(INDEX, _class_name=None), "names the class None; pipelines that can be read"),
    "half a refiner": (
        edited(INDEX, requires_aesthetics_score=True),
        "its UNet takes 6 size ids, and a",
    ),
    "no unet": (without("unet"), f"it lacks unet: a {XL} has text_encoder, text_encoder_2, unet, vae, each"),
    "no configs": (without("unet/config.json", "text_encoder_2/config.json"), "it lacks text_encoder_2, unet"),
    "no scheduler": (without("scheduler"), "there is no file"),
    "no tokenizer": (without("tokenizer_2"), "tokenizer_2 has neither tokenizer.json nor both of vocab.json and"),
    "other words": (other_words, "its tokenizers have different vocabularies"),
    "few embeddings": (
        replaced("text_encoder", public_folders.CLIP | {"vocab_size": 100}),
        f"the tokenizer of its text_encoder has {public_folders.WORDS} entries, more than its 100",
    ),
    "narrow text": (
        replaced("text_encoder", public_folders.CLIP | {"hidden_size": 8}),
        "its text encoders give tokens of 24 and a vector of 10, its UNet takes 28 and 10",
    ),
    "other vector": (
        replaced("text_encoder_2", public_folders.CLIP_2 | {"projection_dim": 6}),
        "its text encoders give tokens of 28 and a vector of 6, its UNet takes 28 and 10",
    ),
    "inpainting": (
        replaced("unet", public_folders.UNET_XL | {"in_channels": 9}),
        "its UNet takes 9 channels and gives 4, its VAE's latents have 4",
    ),
    "a decoder for a vae": (decoder_for_vae, "its vae is a DecoderUNet, not a VAE"),
    "an odd option": (edited("unet/config.json", mid_block_type="None"), "mid_block_type='None' (supported:"),
    "an odd network": (edited(INDEX, vae=["diffusers", "VQModel"]), "is of the class VQModel, which cannot be"),
    "an odd scheduler": (edited(SCHEDULER, _class_name="EDMEulerScheduler"), "unknown scheduler 'EDMEulerScheduler'"),
    "pickles only": (pickled, "can run code when opened, or need other frameworks, and are never read"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_folder_that_does_not_fit_is_refused_in_one_message(kind, sdxl_folder, tmp_path, capsys, monkeypatch):
    spoil, told = BROKEN[kind]
    copy = Path(shutil.copytree(sdxl_folder, tmp_path / "copy"))
    spoil(copy)
    assert refused([copy, tmp_path / "release"], capsys, monkeypatch, tmp_path).count(told) == 1


def refused(arguments: list, capsys, monkeypatch, tmp_path: Path) -> str:
    """The one line that the command says; no tensor was read and nothing was written."""
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("dalle3_jax.convert.networks.place_arrays", None)
    assert main([str(argument) for argument in arguments]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert sorted(tmp_path.rglob("*")) == before
    return told.err


def test_all_that_is_wrong_is_said_at_once(sdxl_folder, tmp_path, capsys, monkeypatch):
    copy = Path(shutil.copytree(sdxl_folder, tmp_path / "copy"))
    kinds = ("an odd option", "an odd scheduler", "other words")
    for kind in kinds:
        BROKEN[kind][0](copy)
    error = refused([copy, tmp_path / "release"], capsys, monkeypatch, tmp_path)
    assert [kind for kind in kinds if BROKEN[kind][1] not in error] == []


def test_an_unknown_type_is_refused_before_src_is_looked_at(tmp_path, capsys, monkeypatch):
    told = refused([tmp_path / "nowhere", tmp_path / "release", "--dtype", "int4"], capsys, monkeypatch, tmp_path)
    assert "cannot be stored as 'int4'; one of float16, bfloat16, float32, int8, fp16, bf16, fp32" in told


def test_something_else_in_the_way_is_left_alone(sd_folder, tmp_path, capsys, monkeypatch):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.md").write_text("all of it")
    told = refused([sd_folder, tmp_path / "thesis"], capsys, monkeypatch, tmp_path)
    assert "thesis exists and is not a release; give another name" in told
    assert (tmp_path / "thesis" / "text.md").read_text() == "all of it"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("v1-5-pruned.ckpt", "can run code when opened"),
        (
            "v1-5-pruned.safetensors",
            "a whole pipeline in one file is not read: load that with diffusers' from_single_f",
        ),
        ("nowhere", "is not a folder: give"),
    ],
)
def test_a_checkpoint_in_one_file_is_refused(tmp_path, capsys, monkeypatch, name, told):
    from safetensors.numpy import save_file

    if name != "nowhere":
        weight = np.zeros((4, 4), np.float32)
        save_file({"model.diffusion_model.input_blocks.0.0.weight": weight}, tmp_path / name)
    assert told in refused([tmp_path / name, tmp_path / "release"], capsys, monkeypatch, tmp_path)


def test_a_variant_that_is_not_there_is_named(sd_folder, tmp_path, capsys, monkeypatch):
    told = refused([sd_folder, tmp_path / "release", "--variant", "fp16"], capsys, monkeypatch, tmp_path)
    assert told.count("there are no weights of variant 'fp16'; there are full precision") == 3


def test_weights_that_are_no_numbers_leave_nothing_behind(sd_folder, tmp_path, capsys):
    copy = Path(shutil.copytree(sd_folder, tmp_path / "copy"))
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()
    file.write_bytes(data)
    assert main([str(copy), str(tmp_path / "release")]) == 2
    told = capsys.readouterr().err
    assert f"in {file} holds NaN or infinity" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


def test_help_is_shown(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "dalle3-jax convert stable-diffusion-v1-5 release" in capsys.readouterr().out
