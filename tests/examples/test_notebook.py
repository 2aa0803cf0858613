"""The notebook of examples/ runs from top to bottom, and is kept as text."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_kept_without_what_it_showed(notebook):
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)


def test_the_notebook_runs_at_a_tiny_size(notebook, release_folder, sd_folder, tmp_path, monkeypatch):
    """Its kernel is another process: what is not here, its install cell would fetch."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    [parameters] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    parameters.source = f"CHECKPOINT, PUBLIC = {str(release_folder)!r}, {str(sd_folder)!r}\n"
    parameters.source += "CONFIG, STEPS, PLAN, TOPOLOGY = 'tiny', 2, 'tiny:vae', 'v5e-4'"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    shown = {name: [one for one in own if one.output_type != "stream"] for name, own in outputs.items()}
    printed = {name: "".join(one.text for one in own if one not in shown[name]) for name, own in outputs.items()}
    assert [one.output_type for one in shown["sample-demo"]] == ["display_data"] * 4 + ["execute_result"]
    assert "image/png" in shown["sample-public"][0].data
    assert "'loss'" in printed["training-curve"]
    assert "v5e:2x2" in printed["plan-pod"]
    assert {path.name for path in tmp_path.iterdir()} >= {"panda.png", "run"}
