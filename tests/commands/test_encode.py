"""The encode command: what it writes is what the networks make of the data, and training on it is the same training."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.checkpoints.releases import load_release
from dalle3_jax.commands import encode
from dalle3_jax.data.caches import latent_cache
from dalle3_jax.data.sources import open_folder_source
from dalle3_jax.data.transforms import decode_image, normalise_pixels
from dalle3_jax.pipeline import programs
from dalle3_jax.stages.config import load_config
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import load_stage_networks
from dalle3_jax.stages.table import build_stage
from dalle3_jax.text.tokenizers import Tokenizer
from dalle3_jax.training import sharding
from scripts import make_bad_records
from scripts.faults.hosts import free_port, wait_or_kill

ROOT = Path(__file__).parents[2]
CONFIG = f"--config={ROOT / 'configs/tiny.py:base'}"
SIZES = ((16, 32), (32, 32))
COUNT = 24

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # by ml_collections 1.1


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tars"
    make_bad_records.write_dataset(folder, COUNT, 0.25, sizes=SIZES, reasons=("truncated", "encoding", "bomb"))
    return folder


def settings(tars, **more):
    data = {"source": tars, "buckets": SIZES, "captions": {"alt": 1.0}, "tokenizer": "", "max_bad": 0.5, **more}
    return [f"--config.data.{name}={value}" for name, value in data.items()]


@pytest.fixture(scope="module")
def cache(tars, release_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches") / "both"
    words = [CONFIG, "--outdir", str(folder), "--checkpoint", str(release_folder), "--text", *settings(tars)]
    assert encode.main(words) == 0
    return folder


def failing(capsys, *words):
    assert encode.main([str(word) for word in words]) == 2
    (said,) = (line for line in capsys.readouterr().err.splitlines() if line and not line.startswith("encoding: "))
    assert said.startswith("error: ")  # beside the bar, where there is one
    return said


def test_a_cache_holds_what_the_networks_make_of_the_data(tars, release_folder, cache):
    release, source = load_release(release_folder), open_folder_source(str(tars))
    vae, encode_text = release.modules["vae"], jax.jit(release.modules["text_encoder"].apply)
    found = latent_cache.open_cache(str(cache), latent_cache.read_cache_metadata(str(cache)))
    bad = {int(index): reason for index, reason in json.loads((tars / "bad.json").read_text()).items()}
    assert {index: rest[0] for index, rest in found.bad_records.items()} == bad
    for index in sorted(set(range(COUNT)) - set(bad))[:4]:
        entry, record = found[index], source[index]
        images = normalise_pixels(decode_image(record.image))[None]
        means = programs.encode_images(release.params["vae"], images, vae=vae)[0]
        np.testing.assert_allclose(entry["latents"], means, atol=4e-3)
        ids, mask = Tokenizer.from_json(release.tokenizer)([record.captions["alt"], ""], 16)
        features = encode_text({"params": release.params["text_encoder"]}, jnp.asarray(ids), jnp.asarray(mask))
        for row, version in enumerate(("alt", "")):
            assert (entry[f"mask/{version}"] == mask[row]).all()
            wanted = features[row] * mask[row][:, None]
            np.testing.assert_allclose(entry[f"features/{version}"], wanted, atol=4e-3)


def test_a_finished_cache_is_left_as_it_is(tars, release_folder, cache, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in cache.glob("*.array_record")}
    words = ["--outdir", str(cache), "--checkpoint", str(release_folder), "--text", *settings(tars)]
    assert encode.main([CONFIG, *words]) == 0
    assert {path.name: path.stat().st_mtime_ns for path in cache.glob("*.array_record")} == before
    out = capsys.readouterr().out
    assert f"{COUNT} records" in out
    assert re.search(r"left out: 2 bomb \('\d+', '\d+'\), 2 encoding \(.*\), 2 truncated", out)


@pytest.mark.parametrize("trainable", [("xfnet", "unet"), ("text_encoder", "xfnet", "unet")])
def test_training_on_a_cache_learns_what_training_on_the_data_does(tars, release_folder, cache, tmp_path, trainable):
    kinds, learnt = [], []
    for name in ("", str(cache)):
        words = [CONFIG, f"--workdir={tmp_path}", *settings(tars, cache=name), f"--config.train.trainable={trainable}"]
        config, workdir = load_config(words)
        config.unlock()
        del config.model["text_encoder"], config.model["xfnet"]
        config.init = dict.fromkeys(("vae", "text_encoder", "xfnet"), str(release_folder))
        config.model.unet.in_channels = config.model.unet.out_channels = 2
        mesh = sharding.make_mesh({"data": -1}, jax.devices()[:1])
        with jax.set_mesh(mesh):
            networks = load_stage_networks(config, workdir, mesh)
            batch = next(build_stage(Context(config, workdir, networks)).data())
            kinds.append(set(batch))
            x0, condition = (
                jax.jit(encode)(networks.loaded, jax.device_put(batch))
                for encode in (networks.encode_latents, networks.encode_text)
            )
            learnt.append((x0, condition.vector, condition.tokens[batch["mask"]], batch["sizes"]))
    assert kinds[0] == {"images", "ids", "mask", "sizes"}
    assert kinds[1] == {"latents", "mask", "sizes", "features" if len(trainable) == 2 else "ids"}
    for ours, theirs in zip(*learnt, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-2)


def test_a_cache_of_other_data_or_networks_is_refused(tars, release_folder, cache, capsys):
    common = [CONFIG, "--outdir", cache, "--checkpoint", release_folder]
    other, common = [*common, *settings(tars, buckets=((32, 32),))], [*common, *settings(tars)]
    assert "text is '" in failing(capsys, *common)
    assert "text_length is 16 there and 9 here" in failing(capsys, *common, "--text", "--config.data.text_length=9")
    sizes = "sizes is [[16, 32], [32, 32]] there and [[32, 32]] here"
    assert sizes in failing(capsys, *other, "--text")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config.data.source=scenes", "--config.data.buckets=()"], "say by --count how many"),
        (["--config.data.source=scenes", "--count=8"], "leave data.buckets empty"),
        (["--count=99"], "99 records are to be encoded and the source has 24"),
        (["--config.data.source=/nowhere"], "data.source '/nowhere' is empty or not there"),
        (["--batch-size=0"], "--batch-size 0"),
        (["--config.data.buckts=()"], "buckts"),
        (["--config.data.max_bad=0.0"], "more than data.max_bad=0 allows: 1 "),
    ],
)
def test_what_cannot_be_encoded_is_said_in_one_line(tars, release_folder, tmp_path, capsys, words, said):
    common = [CONFIG, "--outdir", tmp_path / "out", "--checkpoint", release_folder, *settings(tars)]
    assert said in failing(capsys, *common, *words)


def test_networks_that_are_not_there_are_named(tars, tmp_path, capsys):
    words = CONFIG, "--outdir", tmp_path / "out", *settings(tars)
    assert "config.init has no text_encoder: give --checkpoint" in failing(capsys, *words, "--text")
    assert "config.init names 'vae'" in failing(capsys, *words, "--workdir", tmp_path)


def test_two_processes_write_the_cache_of_one(tars, release_folder, cache, tmp_path):
    port, code = free_port(), "import sys\nfrom dalle3_jax.data.caches import latent_cache\nlatent_cache.SHARD = 5\n"
    code += "from dalle3_jax.commands.encode import main\nsys.exit(main(sys.argv[1:]))"
    words = [CONFIG, "--outdir", str(tmp_path / "out"), "--checkpoint", str(release_folder), *settings(tars)]
    words += [f"--coordinator=localhost:{port}", "--processes=2"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, *words, f"--process={index}"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        for index in range(2)
    ]
    assert [wait_or_kill(process, 120) for process in running] == [0, 0]
    alone = latent_cache.open_cache(str(cache), latent_cache.read_cache_metadata(str(cache)))
    both = latent_cache.open_cache(str(tmp_path / "out"), latent_cache.read_cache_metadata(str(tmp_path / "out")))
    assert len(both.manifest["shards"]) == 5
    assert both.bad_records == alone.bad_records
    for index in sorted(set(range(COUNT)) - set(both.bad_records)):
        np.testing.assert_allclose(both[index]["latents"], alone[index]["latents"], atol=4e-3)
