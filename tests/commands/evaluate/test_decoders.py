"""The command measures every decoder that a release and others have, and says in one line what is wrong before."""

import json
from pathlib import Path

import pytest
from PIL import Image

from dalle3_jax.checkpoints.latents import DecoderSettings, Latent
from dalle3_jax.checkpoints.releases import Release, load_release, save_release
from dalle3_jax.commands.evaluate import main
from dalle3_jax.evaluation.decoders import source_latents
from dalle3_jax.models.build import build_models
from dalle3_jax.pipeline.image_codec import ImageCodec
from dalle3_jax.reading.word_reader import WordReader
from tests.tiny import randomised

NETWORK = {
    "channels": (4,),
    "blocks": 1,
    "latent_channels": 2,
    "time_entries": 0,
    "norm": "rms",
}
PIXELS = NETWORK | {"out_channels": 3, "patch": 8}
LATENTS = NETWORK | {"image_channels": 2, "out_channels": 2, "factor": 1}


def decoders(latent: Latent, **kinds: str) -> Release:
    """A release of decoders of these latents: component -> kind, whose weights are others than another kind's."""
    modules = build_models({name: LATENTS if name == "refiner" else PIXELS for name in kinds})
    params = {name: randomised(module, modules, len(kinds[name])) for name, module in modules.items()}
    known = {name: DecoderSettings(kind, latent, prediction="x0", temperature=0.5) for name, kind in kinds.items()}
    return Release(modules, params, latent, known)


@pytest.fixture(scope="module")
def further(release_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A distilled decoder with a refiner, and a teacher."""
    folder = tmp_path_factory.mktemp("decoders")
    latent = load_release(release_folder, ()).latent  # names its VAE
    assert latent
    save_release(folder / "distilled", decoders(latent, decoder="consistency", refiner="consistency"))
    save_release(folder / "teacher", decoders(latent, decoder="diffusion"))
    return [str(folder / "distilled"), str(folder / "teacher")]


@pytest.fixture(autouse=True)
def word_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads nothing, at once."""
    reader = WordReader("fake", lambda image: "")
    monkeypatch.setattr("dalle3_jax.reading.word_reader.find_word_reader", lambda: reader)


@pytest.fixture
def given(release_folder: Path, reader_folder: Path, tmp_path: Path) -> list[str]:
    out = ["--outdir", str(tmp_path / "out")]
    return ["decoders", "--checkpoint", str(release_folder), "--reader", str(reader_folder), "--count", "6", *out]


def test_a_run_writes_tables_values_plots_and_zooms(
    given: list[str], further: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--sizes", "128", "--steps", "1", "2", "--teacher-steps", "3", "--teacher-count", "2", "--batch-size", "4"]
    assert main([*given, "--decoders", *further, *few]) == 0
    out = tmp_path / "out"
    told, values = (out / "report.md").read_text(), json.loads((out / "report.json").read_text())
    assert told in capsys.readouterr().out
    distilled = ["refiner", "consistency, 1 step", "consistency, 2 steps", "consistency, 2 steps, samples"]
    labels = ["vae", *distilled, "regression", "teacher, 3 steps"]
    assert {source: list(rows) for source, rows in values["rates"].items()} == {
        "encoded, 128 px": ["true pictures", *labels],
        "re-sampled": ["true pictures", *labels],
        "generated": labels,
    }
    assert values["unmeasured"] == []
    rows = values["rates"]["encoded, 128 px"]
    assert (rows["vae"]["pictures"], rows["teacher, 3 steps"]["pictures"]) == (6, 2)
    assert rows["refiner"]["differences"]["psnr"]["prompts"] == 6
    assert rows["teacher, 3 steps"]["differences"]["psnr"]["prompts"] == 2
    assert len({row["rates"]["psnr"]["value"] for name, row in rows.items() if name in labels}) == len(labels)
    assert set(values["rates"]["generated"]["vae"]["rates"]) == {"right"}
    for name in ("letters", "measures-generated", "zoom-re-sampled", "zoom-encoded-128-px"):
        with Image.open(out / f"{name}.png") as image:
            assert min(image.size) > 200


def test_a_release_that_has_its_vae_only_says_so(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without an OCR and plots, what is left is measured."""
    monkeypatch.setattr("dalle3_jax.reading.word_reader.find_word_reader", lambda: None)
    monkeypatch.setattr("dalle3_jax.evaluation.plots.has_matplotlib", lambda: False)
    assert main([*given, "--sizes", "128"]) == 0
    told, error = (tmp_path / "out" / "report.md").read_text(), capsys.readouterr().err
    for line in ("consistency: this release has no such decoder", "drawn words: no OCR", "plots: matplotlib"):
        assert f"note: not measured: {line}" in error
        assert f"- {line}" in told
    assert (
        "words" not in json.loads((tmp_path / "out" / "report.json").read_text())["rates"]["re-sampled"]["vae"]["rates"]
    )
    assert not list((tmp_path / "out").glob("measures-*"))


def test_what_was_measured_stays_when_a_decoder_breaks(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_, **__):
        raise FloatingPointError("the model gave pixels that are no numbers")

    monkeypatch.setattr(source_latents, "resample_latents", broken)
    assert main([*given, "--sizes", "128"]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "no numbers; what was measured before is in" in lines[0]
    assert list(json.loads((tmp_path / "out" / "report.json").read_text())["rates"]) == ["encoded, 128 px"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "5"], "--count 5 must be at least 6"),
        (["--steps", "1", "0"], "--steps 0 must be at least 1"),
        (["--steps", "2", "2"], "--steps 2 2: each once"),
        (["--teacher-steps", "1"], "--teacher-steps 1 must be at least 2"),
        (["--teacher-count", "-1"], "--teacher-count -1 must be at least 0"),
        (["--batch-size", "0"], "--batch-size 0 must be at least 1"),
        (["--seed", "-1"], "--seed -1 must be at least 0"),
        (["--seed", "4294967295"], "--seed 4294967295 must be at most 4294967290"),
        (["--sizes", "128", "132"], "--sizes 132: sides must be multiples of 8"),
        (["--sizes", "64"], "do not fit 64x64"),
        (["--sizes", "8192"], "--sizes 8192: at most"),
        (["--decoders", "nowhere"], "'nowhere' is not a folder"),
        (["--checkpoint", "nowhere"], "'nowhere' is not a folder"),
        (["--reader", "nowhere"], "nowhere"),
        (["--outdir", "/proc/none"], "cannot write to the folder"),
        (["--count", "0", "--batch-size", "0"], "--count 0 must be at least 6; --batch-size 0"),
    ],
)
def test_bad_input_is_one_line_and_no_picture(
    given: list[str],
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ImageCodec, "decode", None)
    assert main([*given, *arguments]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
