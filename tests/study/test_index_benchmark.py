from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twotower.data import Dataset
from twotower.errors import InputError
from twotower.index.compare import search_one_by_one
from twotower.reporting.study_results import Reference
from twotower.study.index_benchmark import (
    IndexBench,
    bench_index,
    protocol,
)
from twotower.workflow.bundling import bundle_contents, write_bundle
from twotower.workflow.models import train_variant

REFERENCE = Reference.model_validate(
    {
        "source": "somewhere",
        "note": "",
        "rows": [
            {"model": "flat", "protocol": "index", "metric": "us@5", "value": 310},
            {"model": "hnsw", "protocol": "index", "metric": "us@5", "value": 29},
        ],
    }
)


@pytest.fixture(scope="module")
def bundle(blocks: Dataset, small_variants: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "bundle"
    trained = train_variant(small_variants["v9"], blocks)
    write_bundle(folder, bundle_contents("v9", trained, blocks, new_items=False), trained)
    return folder


def test_measures_every_kind_at_every_size(bundle: Path, blocks: Dataset) -> None:
    settings = IndexBench(
        kinds=("exact", "flat", "brute-force"),
        ks=(5,),
        sizes=(100, 200),
        queries=10,
        rounds=2,
    )
    done: list[str] = []
    found = bench_index(bundle, settings, note=done.append)
    assert found.absent == []
    assert list(dict.fromkeys(row.protocol for row in found.rows)) == [
        "index-100x10", "index-200x10"
    ]  # fmt: skip
    assert len(done) == 6
    values = {(row.protocol, row.model, row.metric): row for row in found.rows}
    for where in ("index-100x10", "index-200x10"):
        for kind in settings.kinds:
            assert values[where, kind, "recall@5"].value == 1
            for metric in ("us@5", "p99-us@5", "queries/s@5", "build-seconds", "memory-mb"):
                assert values[where, kind, metric].value > 0
        assert (where, "exact", "times-as-fast-as-exact@5") not in values
        ratio = values[where, "flat", "times-as-fast-as-exact@5"]
        assert ratio.low is not None
        assert ratio.low <= ratio.value
    megabytes = values["index-100x10", "exact", "memory-mb"].value
    assert megabytes == pytest.approx(100 * 10 * 4 / 2**20, rel=1e-4)
    assert found.models["brute-force"].startswith("matrix product and top-k in PyTorch, on ")


def test_published_figures_are_added_at_the_bundles_own_size(bundle: Path, blocks: Dataset) -> None:
    settings = IndexBench(kinds=("exact", "flat"), ks=(5,), queries=5, rounds=1)
    rows = bench_index(bundle, settings, reference=REFERENCE).rows
    (published,) = [row for row in rows if row.metric.startswith("published")]
    assert (published.model, published.metric, published.value) == ("flat", "published-us@5", 310)
    assert published.protocol == protocol(len(blocks.items), 10)
    assert published.low is None


def test_kinds_that_take_too_much_time_or_memory_are_left_out(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = IndexBench(
        kinds=("exact", "hnsw"),
        ks=(5,),
        sizes=(50, 100),
        queries=5,
        rounds=1,
        build_limit=1e-9,
    )
    found = bench_index(bundle, settings)
    assert {(one.model, one.reason.split(":")[0]) for one in found.absent} == {
        (kind, "index-100x10") for kind in ("exact", "hnsw")
    }
    assert all("to build it would take" in one.reason for one in found.absent)

    monkeypatch.setattr("twotower.study.index_benchmark.available_memory", lambda: 1000)
    found = bench_index(bundle, settings.vary(build_limit=60))
    assert found.rows == []
    assert len(found.absent) == 4
    assert "GiB of memory, 0.0 are free" in found.absent[0].reason


def test_refuses_an_unknown_kind(bundle: Path) -> None:
    with pytest.raises(InputError, match="unknown kind of index 'annoy'"):
        bench_index(bundle, IndexBench(kinds=("annoy",)))


def test_a_round_ends_at_its_time_limit() -> None:
    class Slow:
        asked = 0

        def search(self, queries: Any, k: int) -> Any:
            self.asked += 1
            return np.zeros((1, k), np.float32), np.zeros((1, k), np.int64)

    slow = Slow()
    found, seconds = search_one_by_one(slow, np.zeros((50, 2), np.float32), 3, most_seconds=0)
    assert len(found) == len(seconds) == 1
    assert slow.asked == 2
