"""The notebook tells its story from the first cell to the last, and is kept without outputs."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "training.ipynb"


@pytest.fixture(scope="module")
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_no_outputs_are_kept(notebook: Any) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_it_only_calls_the_package(notebook: Any) -> None:
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert not any(word in code for word in ("def ", "class ", "!", "%pip"))


@pytest.mark.timeout(600)
def test_it_runs_from_end_to_end(
    notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    client = NotebookClient(notebook, timeout=300, kernel_name="python3")
    done = client.execute(cwd=str(tmp_path))
    outputs = [out for cell in done.cells if cell.cell_type == "code" for out in cell.outputs]
    assert not any(out.output_type == "error" for out in outputs)
    shown = json.dumps(outputs)
    assert len(shown) < 1_000_000  # what somebody who saves it would commit
    assert "What each change adds" in shown
    assert "v5 against v4" in shown
    assert shown.count("application/vnd.plotly.v1+json") == 4
