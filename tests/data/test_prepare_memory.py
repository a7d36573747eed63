import subprocess
import sys
from pathlib import Path

import pytest

from twotower.evaluation.results import read_results

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "prepare_memory.py"


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is not on Windows")
def test_the_memory_benchmark_runs_small(tmp_path: Path) -> None:
    sizes = ["--reviews", "20000", "--users", "5000", "--products", "500"]
    command = [sys.executable, str(SCRIPT), *sizes, "--out", str(tmp_path / "r.json")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    results = read_results(tmp_path / "r.json")
    peaks = [row.value for row in results.rows if row.metric == "peak_memory_mb"]
    assert len(peaks) == 2
    assert all(0 < peak < 1024 for peak in peaks)
