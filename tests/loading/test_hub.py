"""Repositories by name: exactly the files that are read come, whole, once, and every failure says what to do."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from dalle3_jax.loading.hub import fetch, is_hub_id
from tests.loading.hub_server import Hub, Repository

INDEX = "model.safetensors.index.fp16.json"
SHARDS = ["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"]
FILLED = {
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": [None, None],
    "text_encoder_2": [None, None],
}
NEEDED = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]
UNUSED = [
    *("README.md", ".gitattributes", "v1-5-pruned.safetensors", "v1-5-pruned.ckpt", "v1-inference.yaml"),
    *("feature_extractor/preprocessor_config.json", "image_encoder/config.json", "image_encoder/model.safetensors"),
    *("safety_checker/config.json", "safety_checker/model.safetensors", "safety_checker/pytorch_model.bin"),
    *("text_encoder/model.fp16.safetensors", "text_encoder/pytorch_model.bin", "text_encoder/model.onnx"),
    *("text_encoder/flax_model.msgpack", "text_encoder/pytorch_model.bin.index.json", "tokenizer/script.py"),
    *("text_encoder_2/model.safetensors", "text_encoder_2/config.json", "vae/more/model.safetensors"),
    *("unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.bin", "vae_decoder/model.onnx"),
    *("vae/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors"),
]


def contents(*paths: str) -> Repository:
    """Every file says where it is, at a length that no one packet holds."""
    return {path: f"{path}\n".encode() * 5000 for path in paths}


def pipeline(*more: str) -> Repository:
    return contents(*NEEDED, *UNUSED, *more) | {"model_index.json": json.dumps(FILLED).encode()}


def variations() -> Repository:
    """SD image variations: an image encoder in place of the text encoder."""
    filled = FILLED | {"text_encoder": [None, None], "tokenizer": [None, None], "image_encoder": ["transformers", "C"]}
    return pipeline() | {"model_index.json": json.dumps(filled).encode()}


def with_index(repository: Repository, part: str = "") -> Repository:
    """The weights of one part as fp16 shards with their index."""
    kept = {path: content for path, content in repository.items() if not path.startswith(f"{part}model.")}
    weight_map = {f"tensor.{number}": name for number, name in enumerate(SHARDS)}
    index = json.dumps({"weight_map": weight_map}).encode()
    return kept | contents(*(part + name for name in SHARDS)) | {part + INDEX: index}


def release(folder: Path) -> Repository:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def repositories(release_folder: Path) -> dict[str, Repository]:
    t5 = ("config.json", "tokenizer.json", "tokenizer_config.json", "README.md", "pytorch_model.bin", "generation.json")
    return {
        "org/pipeline": pipeline(),
        "org/variations": variations(),
        "org/half": contents("config.json", "diffusion_pytorch_model.fp16.safetensors"),
        "org/sharded": with_index(pipeline(), "text_encoder/"),
        "org/t5": with_index(contents(*t5)),
        "org/release": release(release_folder) | contents("picture.png"),
        "org/pickles": contents("config.json", "pytorch_model.bin", "unet/diffusion_pytorch_model.bin"),
        "org/half-pickles": {k: v for k, v in pipeline().items() if not (k.startswith("vae/") and "safe" in k)},
        "org/bare": contents("model.safetensors"),
        "org/other": contents("model.safetensors") | {"model_index.json": b'{"transformer": ["a", "b"]}'},
        "org/holes": {k: v for k, v in with_index(contents(*t5)).items() if k != SHARDS[1]},
    }


@pytest.fixture
def hub(release_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub; the library speaks with nobody else, sends no token, and takes no proxy on the way."""
    for name in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_HUB_DISABLE_XET"):
        monkeypatch.setattr(constants, name, True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    close_session()  # a session reads the environment when it is made
    with Hub(repositories(release_folder)) as server:
        yield server
        close_session()


@pytest.fixture
def get(hub: Hub, tmp_path: Path):
    """`fetch` from that hub into a cache of the test's own."""
    return lambda name, variant=None, **rest: fetch(
        name, variant, **{"endpoint": hub.endpoint, "cache": tmp_path} | rest
    )


def landed(folder: Path) -> Repository:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_whole(hub: Hub, name: str, folder: Path, expected: list[str]) -> None:
    """Just the expected files were asked for, once each, and they lie in the folder as the hub has them."""
    assert hub.downloads() == sorted(expected)
    assert landed(folder) == {path: hub.repositories[name][path] for path in expected}


def test_only_what_is_read_of_a_pipeline_is_downloaded(hub, get):
    assert_whole(hub, "org/pipeline", get("org/pipeline"), NEEDED)


def test_the_image_encoder_of_a_pipeline_without_text_is_downloaded(hub, get):
    needed = [path for path in NEEDED if not path.startswith(("text_encoder/", "tokenizer/"))]
    needed += ["image_encoder/config.json", "image_encoder/model.safetensors"]
    assert_whole(hub, "org/variations", get("org/variations"), needed)


def test_a_variant_is_downloaded_in_place_of_full_precision(hub, get):
    half = [path.replace("model.safe", "model.fp16.safe") for path in NEEDED]
    assert_whole(hub, "org/pipeline", get("org/pipeline", "fp16"), half)


def test_half_precision_will_do_where_there_is_no_other(hub, get):
    assert_whole(hub, "org/half", get("org/half"), list(hub.repositories["org/half"]))


def test_the_shards_of_an_index_come_with_it(hub, get):
    shards = [f"text_encoder/{name}" for name in (INDEX, *SHARDS)]
    expected = [path for path in NEEDED if path != "text_encoder/model.safetensors"] + shards
    assert_whole(hub, "org/sharded", get("org/sharded"), expected)


def test_a_network_alone_comes_with_its_tokenizer(hub, get):
    expected = ["config.json", "tokenizer.json", "tokenizer_config.json", INDEX, *SHARDS]
    assert_whole(hub, "org/t5", get("org/t5"), expected)


def test_a_release_comes_as_its_record_says(hub, get, release_folder):
    from dalle3_jax.checkpoints.releases import load_release

    folder = get("org/release")
    assert_whole(hub, "org/release", folder, sorted({*release(release_folder)} - {"MODEL_CARD.md"}))
    assert load_release(folder).digest == load_release(release_folder).digest


def test_a_second_call_downloads_nothing(hub, get):
    first = get("org/sharded")
    assert hub.downloads()
    assert get("org/sharded") == first
    assert hub.downloads() == []


def test_a_new_commit_downloads_what_changed(hub, get):
    first = get("org/t5")
    hub.downloads()
    hub.repositories["org/t5"][SHARDS[1]] += b"more"
    second = get("org/t5")
    assert second != first
    assert hub.downloads() == [SHARDS[1]]
    assert (second / SHARDS[1]).read_bytes() == hub.repositories["org/t5"][SHARDS[1]]


@pytest.mark.parametrize("where", ["name", "argument", "commit"])
def test_a_revision_is_part_of_the_name_or_beside_it(hub, get, where):
    commit = hub.commit("org/half")
    revision = commit if where == "commit" else "v1"
    folder = get("org/half", revision=revision) if where == "argument" else get(f"org/half@{revision}")
    assert folder.name == commit
    asked = {path for _, path in hub.requests if "/main" in path}
    assert asked == set()


def test_a_connection_that_breaks_is_taken_up_again(hub, get):
    hub.cut = {"diffusion_pytorch_model.fp16.safetensors"}
    folder = get("org/half")
    assert hub.downloads() == ["config.json", *["diffusion_pytorch_model.fp16.safetensors"] * 2]
    assert landed(folder) == hub.repositories["org/half"]


@pytest.mark.parametrize("name", ["org/sharded", "org/release", "org/t5"])
def test_a_filled_cache_needs_no_hub(hub, get, name):
    first = get(name)
    hub.stop()
    assert get(name) == first


def test_a_library_told_to_stay_offline_takes_the_cache(hub, get, monkeypatch):
    first = get("org/half")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    assert get("org/half") == first
    with pytest.raises(ValueError, match=r"cannot fetch org/t5 .* give its folder"):
        get("org/t5")


@pytest.mark.parametrize("lost", ["vae/diffusion_pytorch_model.safetensors", f"text_encoder/{SHARDS[1]}"])
def test_half_a_folder_in_the_cache_is_none(hub, get, lost):
    (get("org/sharded") / lost).unlink()
    hub.stop()
    with pytest.raises(ValueError, match=r"only a part of it: .*(vae: there are no weights|lacks text_encoder/model)"):
        get("org/sharded")


@pytest.mark.parametrize("path", ["vae/config.json", "unet/diffusion_pytorch_model.safetensors"])
def test_a_download_cut_short_is_not_taken_for_whole(hub, get, path):
    hub.gated = {path}
    with pytest.raises(ValueError, match="is gated"):
        get("org/pipeline")
    hub.stop()
    with pytest.raises(ValueError, match="only a part of it"):
        get("org/pipeline")


@pytest.mark.parametrize(
    ("name", "said", "asked"),
    [
        ("org/pickles", "pytorch_model.bin.* can run code .*safe_serialization=True", []),
        ("org/bare", "none of model.json, model_index.json, config.json", []),
        ("org/absent", "no folder here and no public repository at .*check the name, or log in", []),
        ("org/half@v2", "no revision 'v2'", []),
        ("org/other", "a pipeline of another kind", ["model_index.json"]),
        ("org/half-pickles", "vae: .*diffusion_pytorch_model.bin can run code", ["model_index.json"]),
        ("org/holes", f"lacks {SHARDS[1]}", ["config.json", INDEX, "tokenizer.json", "tokenizer_config.json"]),
    ],
)
def test_what_cannot_be_used_is_refused_before_its_weights(hub, get, name, said, asked):
    hub.repositories["org/half-pickles"]["vae/diffusion_pytorch_model.bin"] = b""
    with pytest.raises(ValueError, match=said) as raised:
        get(name)
    assert name.partition("@")[0] in str(raised.value)
    assert hub.downloads() == sorted(asked)


def test_every_part_without_weights_is_named(hub, get):
    with pytest.raises(ValueError, match=r"text_encoder: .*unet: .*vae: there are no weights of variant 'bf16'"):
        get("org/pipeline", "bf16")


def test_a_gated_repository_says_where_to_ask(hub, get):
    hub.gated = {"org/half"}
    with pytest.raises(ValueError, match=rf"gated: accept its terms at {hub.endpoint}/org/half and log in"):
        get("org/half")


def test_a_hub_out_of_reach_is_named(get):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(ValueError, match=f"cannot fetch org/half from {endpoint} .*check the network, set HF_ENDPOINT"):
        get("org/half", endpoint=endpoint)


def test_nothing_is_written_but_into_the_cache(hub, get, tmp_path):
    get("org/half", cache=tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai/consistency-decoder", True),
        ("org/name@main", True),
        ("org/name@refs/pr/3", True),
        ("org/a.b_c-d", True),
        *((name, False) for name in ("demo", "a/b/c", "/org/name", "org/", "./name", "../name", "~/name", "org/na me")),
        *((name, False) for name in ("org/name@", "org/name@../x", "org/name@/x", "org/a--b", "org/a..b", "org/é")),
        *((name, False) for name in ("org/" + "x" * 93, "org/name.git", "org/-name", "-org/name", "org/name.", "")),
        (Path("org/name"), False),
    ],
)
def test_a_hub_id_reads_organisation_and_name(name, expected):
    assert is_hub_id(name) is expected
    if not expected and isinstance(name, str):
        with pytest.raises(ValueError, match="no name on the hub"):
            fetch(name, endpoint="http://127.0.0.1:9")


def test_a_path_that_exists_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("org/name")
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert not is_hub_id("org/name")


def test_two_revisions_contradict_each_other():
    with pytest.raises(ValueError, match="contradict"):
        fetch("org/name@v1", revision="v2")
