"""The notebooks run from the first cell to the last, and are kept without outputs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def read(name: str) -> Any:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_of(notebook: Any) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize("name", NAMES)
def test_no_outputs_are_kept(name: str) -> None:
    code = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.parametrize("name", NAMES)
def test_it_only_calls_the_package(name: str) -> None:
    assert not any(word in code_of(read(name)) for word in ("def ", "class ", "!", "%pip"))


@pytest.mark.parametrize("name", ["own-data", "cold-start"])
def test_the_public_interface_is_enough(name: str) -> None:
    lines = [line for line in code_of(read(name)).splitlines() if "import" in line.split()]
    package = [line for line in lines if "twotower" in line]
    assert len(package) == 2
    assert package[0].startswith("from twotower import ")
    assert package[1] == "from twotower.data.sample import sample_folder"


def run(
    name: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: Mapping[str, str] | None = None,
) -> str:
    """All outputs of a notebook as JSON; ``changes`` are made to its code before."""
    notebook = read(name)
    for old, new in (changes or {}).items():
        cells = [cell for cell in notebook.cells if old in cell.source]
        assert len(cells) == 1
        cells[0].source = cells[0].source.replace(old, new)
    monkeypatch.setenv("TWOTOWER_CACHE", str(folder / "cache"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # A cell that trains takes a minute of a core, and many on a busy machine.
    client = NotebookClient(notebook, timeout=1200, kernel_name="python3")
    done = client.execute(cwd=str(folder))
    outputs = [out for cell in done.cells if cell.cell_type == "code" for out in cell.outputs]
    assert not any(out.output_type == "error" for out in outputs)
    shown = json.dumps(outputs)
    assert len(shown) < 1_000_000  # what a saved copy would commit
    return shown


SHORT: Final = {'text_encoder="hashing")': 'text_encoder="hashing", minutes=0.02)'}
"""A model that is trained for a second shows as well whether the cells run."""
SMALL: Final = """text_encoder = "hashing"

from twotower.data import Dataset
from twotower.study.ablation import cell, study as grid
from twotower.workflow.variants import VARIANTS

def run_here(cells, needs, out, protocols, **_):
    for one in cells:
        cell.run_cell(one, Dataset.load(out / "dataset"), out, protocols, Silent())
    return {}

grid.run_cells = run_here
VARIANTS.update({name: VARIANTS[name].with_epochs(2) for name in ("v1", "v4", "v5")})"""
"""The models of the study for two epochs, in the notebook's process."""


@pytest.mark.timeout(1800)
def test_training(small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three models are trained, here on a quarter of the users, for two epochs."""
    smaller = f'Path("{small_sample}"), find_dataset("sample")[1]'
    changes = {'find_dataset("sample")': smaller, 'text_encoder = "hashing"': SMALL}
    shown = run("training", tmp_path, monkeypatch, changes)
    assert "What each change adds" in shown
    assert "v5 against v4" in shown
    assert shown.count("application/vnd.plotly.v1+json") == 4


@pytest.mark.timeout(1800)
def test_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("own-data", tmp_path, monkeypatch, SHORT)
    assert "NDCG@10" in shown
    assert "because" in shown
    assert "shape: (6, 6)" in shown


@pytest.mark.timeout(1800)
def test_cold_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("cold-start", tmp_path, monkeypatch, SHORT)
    assert "after two" in shown
    assert "like " in shown
