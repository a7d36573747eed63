import json
import re
from pathlib import Path
from typing import Any

import pytest

from twotower.evaluation.results import Row, read_results
from twotower.study import index_benchmark as index_bench
from twotower.study.index_benchmark import Figures


def test_help_has_an_example(exit_code: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("bench", "index", "--help") == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "Example: twotower bench index --bundle" in shown


def test_prints_and_writes_what_was_measured(
    exit_code: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = {}

    def measured(bundle: Path, settings: Any, **options: Any) -> Figures:
        asked.update(bundle=bundle, settings=settings, **options)
        row = {"dataset": "shop", "split": "all-users", "model": "pq", "protocol": "index-9x8"}
        rows = [
            Row.model_validate({**row, "metric": metric, "value": 12.5, "users": 3})
            for metric in ("us@10", "recall@10", "memory-mb")
        ]
        return Figures(rows, [], {"pq": "{}"})

    monkeypatch.setattr(index_bench, "bench_index", measured)
    reference = tmp_path / "reference.json"
    reference.write_text(json.dumps({"source": "s", "note": "", "rows": []}))
    code = exit_code(
        "bench", "index", "--bundle", "b", "--k", 10, "--sizes", 9, "--kind", "pq", "--rounds", 2,
        "--reference", reference, "--json", tmp_path / "out.json",
    )  # fmt: skip
    assert code == 0
    settings = asked["settings"]
    assert (settings.kinds, settings.ks, settings.sizes) == (("pq",), (10,), (9,))
    assert (settings.rounds, asked["reference"].source) == (2, "s")
    shown = capsys.readouterr().out
    assert "index-9x8, k = 10, one thread" in shown
    assert "12.5" in shown
    results = read_results(tmp_path / "out.json")
    assert results.meta.threads == 1
    assert results.models == {"pq": "{}"}


def test_refuses_what_cannot_be_measured(
    exit_code: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("bench", "index", "--bundle", "b", "--build-limit", 0) == 2
    assert "build_limit: Input should be greater than 0" in capsys.readouterr().err
