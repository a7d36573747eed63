"""The benchmark scripts run, small, and write valid results files."""

import importlib
import importlib.util
import operator
import re
import runpy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from twotower.data import Dataset
from twotower.data.prepare import prepare
from twotower.evaluation.protocols import FULL, evaluate
from twotower.evaluation.results import Results, Row, read_results
from twotower.factors.item_knn import ItemKNN
from twotower.workflow import models
from twotower.workflow.datasets import find_dataset

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PEERS = BENCHMARKS / "peers"

needs_implicit = pytest.mark.skipif(
    importlib.util.find_spec("implicit") is None, reason="implicit comes with the extra 'bench'"
)


Run = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a script in this process, which has imported torch, with a cache of its own."""
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(BENCHMARKS)

    def call(script: str, *options: object) -> None:
        monkeypatch.setattr(sys, "argv", [script, *map(str, options)])
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")

    return call


@pytest.fixture
def run_small(run: Run, shop: Path, tmp_path: Path) -> Callable[..., Results]:
    """Results of a script over 60 users, or those of another log."""

    def call(script: str, *options: str, dataset: Path | str = shop) -> Results:
        run(script, "--dataset", dataset, *options, "--out", tmp_path / "r.json")
        return read_results(tmp_path / "r.json")

    return call


def test_lightgcn_speed(run_small: Any, small_sample: Path) -> None:
    results = run_small("lightgcn_speed.py", "--steps", "2", "--repeats", "1", dataset=small_sample)
    metrics = {(row.model, row.metric) for row in results.rows}
    assert ("lightgcn", "seconds/epoch") in metrics
    assert ("lightgcn-plain-pytorch", "ratio-to-lightgcn") in metrics


@needs_implicit
def test_mf_speed(run_small: Any) -> None:
    results = run_small("mf_speed.py", "--steps", "2", "--repeats", "1", dataset="sample")
    rates = {row.model: row.value for row in results.rows if row.metric == "examples/s"}
    assert {"implicit-bpr", "mf-batch-2048"} <= set(rates)
    assert min(rates.values()) > 0
    shares = [row.value for row in results.rows if row.protocol == "profile"]
    assert 0 < sum(shares) <= 1


@needs_implicit
def test_implicit_bpr(run_small: Any, small_sample: Path) -> None:
    results = run_small("implicit_bpr.py", "--epochs", "1", "2", dataset=small_sample)
    assert {row.protocol for row in results.rows} == {"full", "full-unmasked", "sampled-100"}


def test_datasets(run: Run, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample's shop stands for a data set of the folder."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "ml-100k").symlink_to(shop)
    monkeypatch.setenv("TWOTOWER_DATA", str(data))
    options = ("--text-encoder", "hashing", "--epochs", 1)
    file = tmp_path / "datasets-ml-100k.json"
    command = ("datasets.py", "ml-100k", "--out", tmp_path / "runs", "--results", tmp_path)
    run(*command, *options)
    rows = read_results(file).rows
    assert {row.model for row in rows} == {
        "popularity", "item-knn", "ease", "als", "v10", "v10+rerank",
    }  # fmt: skip
    assert {row.protocol for row in rows} == {"full", "full-unmasked", "full-timed", "timing"}
    assert {row.model for row in rows if row.protocol == "full-timed"} == {"v10", "v10+rerank"}
    assert all(row.value > 0 for row in rows if row.metric == "peak-memory-mb")
    costs = {row.metric: row for row in rows if row.protocol == "timing"}
    assert costs.keys() == {"training-seconds", "best-epoch", "peak-memory-mb"}

    def read_again() -> dict[str, Row]:
        run(*command, *options)
        return {row.metric: row for row in read_results(file).rows if row.protocol == "timing"}

    assert read_again() == costs
    text = file.read_text()
    seconds = costs["training-seconds"].value
    file.write_text(text.replace(f'"value":{seconds}', f'"value":{2 * seconds + 1}'))
    assert file.read_text() != text  # of another training
    del costs["peak-memory-mb"]
    assert read_again() == costs


def test_attributes(
    run: Run, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (real_data / "ml-100k").is_dir():
        pytest.skip("ml-100k not found among the real data")
    monkeypatch.setenv("TWOTOWER_DATA", str(real_data))
    run("attributes.py", "ml-100k", "--out", tmp_path / "runs", "--results", tmp_path)
    found = read_results(tmp_path / "attributes-ml-100k.json")
    assert {row.model for row in found.rows} == {"attributes alone", "popularity"}
    gains = {one.metric: one.verdict for one in found.differences}
    assert gains["NDCG@10"] == "helps"


def test_refit_worth(run: Run, blocks: Dataset, tmp_path: Path) -> None:
    blocks.save(tmp_path / "data")
    options = ("--text-encoder", "hashing", "--epochs", 1, "--results", tmp_path)
    run("refit_worth.py", "--data", tmp_path / "data", "--out", tmp_path / "models", *options)
    rows = read_results(tmp_path / "refit-blocks.json").rows
    assert {row.model for row in rows} == {
        "popularity", "v10", "v10+rerank", "v10-refit", "v10-refit+rerank",
    }  # fmt: skip
    assert {row.users for row in rows} == {60}


def test_gowalla(run_small: Any, tmp_path: Path) -> None:
    untrained = ("graph-filter", "random-walk", "graph-filter chosen")
    names = ("lightgcn-5-epochs", "mf", *untrained, "two-tower")
    small = ("--epochs", "1", "--minutes", "0.05", "--folder", str(tmp_path / "two-tower"))
    results = run_small("gowalla.py", *small, "--models", *names)
    assert {row.model for row in results.rows} == {*names[:-1], "v10", "v10+rerank"}


def test_bpr_collapse(run_small: Any) -> None:
    results = run_small("bpr_collapse.py", "--epochs", "1", "--models", "v4")
    assert [(row.model, row.metric) for row in results.rows] == [
        ("v4", "HR@10"),
        ("v4", "NDCG@10"),
        ("v4", "item-mean-norm"),
    ]


def peers_module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(PEERS)
    return importlib.import_module(name)


def run_peers(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Results:
    command = ["run.py", "--dataset", "sample", "--settings", "1", *options]
    command += ["--out", str(folder / "runs"), "--json", str(folder / "r.json")]
    monkeypatch.setattr(sys, "argv", command)
    peers_module("run", monkeypatch).main()
    return read_results(folder / "r.json")


def test_peers_give_the_figures_of_full_scores_and_are_not_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = run_peers(tmp_path, monkeypatch, "--peer", "item-knn")
    source, settings = find_dataset("sample")
    dataset = prepare(source, settings=settings)
    knn = ItemKNN.fit(dataset.train, len(dataset.items))
    whole = evaluate(knn, dataset, protocols=[FULL])
    found = {row.metric: row for row in results.rows if row.protocol == FULL and row.low}
    assert set(found) == {"HR@5", "HR@10", "HR@20", "NDCG@10", "NDCG@20"}
    for metric, row in found.items():
        assert row.value == pytest.approx(whole.mean(FULL, metric), rel=1e-5)
    costs = {row.metric: row.value for row in results.rows if row.protocol == "timing"}
    assert costs["training-seconds"] > 0
    assert costs["peak-memory-mb"] > 50
    again = run_peers(tmp_path, monkeypatch, "--peer", "item-knn")
    assert "item-knn: found finished" in capsys.readouterr().out
    assert again.rows == results.rows
    assert "item-knn" in (tmp_path / "r.svg").read_text()


def test_a_peer_that_fails_is_in_the_results_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = run_peers(tmp_path, monkeypatch, "--peer", "item-knn", "--limit", "0")
    assert results.rows == []
    assert [(one.model, one.reason) for one in results.absent] == [
        ("item-knn", "not done after 0 seconds")
    ]


def test_peers_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = peers_module("catalogue", monkeypatch)
    for name, peer in catalogue.PEERS.items():
        script, model = peer.adapter
        assert f'"{model}": ' in (PEERS / script).read_text(), name
        assert 1 <= len(peer.grid) <= catalogue.MOST_SETTINGS
        assert len({catalogue.in_words(settings) for settings in peer.grid}) == len(peer.grid)
        if peer.environment is not None:
            pins = (PEERS / "requirements" / f"{peer.environment}.txt").read_text().splitlines()
            assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins), peer.environment
    assert catalogue.in_words({"alpha": 40.0, "neighbours": None}) == "alpha=40 neighbours=None"


def test_an_environment_that_cannot_be_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments = peers_module("environments", monkeypatch)
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "broken.txt").write_text("no requirement at all\n")
    with pytest.raises(environments.InstallError, match=r"cannot be installed: .*nvalid"):
        environments.interpreter("broken", tmp_path / "environments")
    assert environments.interpreter(None, tmp_path) == Path(sys.executable)


def test_the_picture_of_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = peers_module("picture", monkeypatch)
    found = [
        picture.Point("als", 9.0, 0.05, 0.04, 0.06),
        picture.Point("v9", 900.0, 0.07, 0.06, 0.08),
    ]
    drawn = ElementTree.fromstring(picture.render(found, "games & more"))
    words = [element.text for element in drawn.iter() if element.text and element.text.strip()]
    assert {"als", "v9", "1", "10", "1000", "seconds of training"} <= set(words)
    groups = [e for e in drawn.iter() if e.get("id") in ("point-als", "point-v9")]
    points = [next(e for e in group.iter() if e.tag.endswith("use")) for group in groups]
    assert len(points) == 2
    assert float(points[0].get("x", 0)) < float(points[1].get("x", 0))
    assert float(points[0].get("y", 0)) > float(points[1].get("y", 0))
    assert picture.apart([100.0, 98.0, 40.0]) == [110.0, 98.0, 40.0]


def test_lists_of_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = peers_module("exchange", monkeypatch)
    monkeypatch.setattr(exchange, "LIST_LENGTH", 2)
    asked = exchange.Rows(np.array([7, 9]), np.array([0, 1, 4]), np.array([3, 0, 1, 2]))
    scores = np.array([[0.1, 0.5, 0.2, 0.9], [1.0, 1.0, 1.0, 0.3]], np.float32)
    items, values = exchange.by_scores(lambda batch: scores)(asked)
    assert items.tolist() == [[1, 2], [3, -1]]
    assert values[0].tolist() == pytest.approx([0.5, 0.2])
    newest, lengths = asked.newest(2)
    assert newest.tolist() == [[3, -1], [1, 2]]
    assert lengths.tolist() == [1, 2]
    rows, listed = np.array([1, 0, 1, 1]), np.array([5, 6, 7, 8])
    items, _ = exchange.by_table(rows, listed, np.array([3.0, 9.0, 2.0, 1.0]), 2)
    assert items.tolist() == [[6, -1], [5, 7]]


def test_the_best_epoch_of_a_peer_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = peers_module("exchange", monkeypatch)
    one = exchange.Rows(np.array([0]), np.array([0, 1]), np.array([4]))
    for name in ("train", "validation", "validation-targets"):
        one.write(tmp_path / f"{name}.npz")
    (tmp_path / "about.json").write_text('{"users": 1, "items": 5}')

    class Weights:
        place = np.array(9)

        def state_dict(self) -> dict[str, "Copied"]:
            return {"place": Copied(self.place)}

        def load_state_dict(self, weights: dict[str, np.ndarray]) -> None:
            self.place = weights["place"]

    class Copied:
        def __init__(self, value: np.ndarray) -> None:
            self.value = value

        def clone(self) -> np.ndarray:
            return self.value.copy()

    module = Weights()
    places = [5, 2, 0, 3] + [4] * 20

    def epoch(number: int) -> None:
        module.place = np.array(places[number])

    def answer(asked: object) -> tuple[np.ndarray, np.ndarray]:
        items, scores = exchange.empty_lists(1)
        items[0, module.place] = 4
        return items, scores

    task = exchange.Task(tmp_path, {}, seed=0, seconds=60)
    task.train_by_epoch(epoch, lambda: module, answer)
    assert module.place == 0
    assert task.best_epoch == 3


def test_least_squares(run: Run, blocks: Dataset, tmp_path: Path) -> None:
    blocks.save(tmp_path / "data")
    options = ("--text-encoder", "hashing", "--dim", 4, "--out", tmp_path / "r.json")
    run("least_squares.py", "--data", tmp_path / "data", *options)
    results = read_results(tmp_path / "r.json")
    models = {row.model for row in results.rows}
    assert {"ease", "least squares, chosen", "least squares, settings of v9"} <= models
    selection = {row.metric for row in results.rows if row.protocol == "selection"}
    assert selection == {"trials", "seconds"}


def test_v9_trials(run_small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = partial(models.named_variant, text_encoder="hashing")
    monkeypatch.setattr(models, "named_variant", hashed)
    results = run_small("v9_trials.py", "--data", str(tmp_path / "data"))
    assert len({row.model for row in results.rows}) == 13
    assert {row.metric for row in results.rows} == {"HR@10", "HR@50", "NDCG@10"}


def test_event_kinds(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small shop with the columns of the real one; its baselines alone."""
    rng = np.random.default_rng(0)
    rows = ["customer,sku,when,kind,qty"]
    for user in range(40):
        for place, item in enumerate(2 * rng.permutation(15)[:8] + user % 2):
            kinds = ("view", "cart", "buy")[: 1 + place % 3]
            day = f"2025-06-{place + 1:02}T10:0"
            rows += [f"C{user},S{item},{day}{n}:00,{kind},1" for n, kind in enumerate(kinds)]
    (tmp_path / "data" / "shop").mkdir(parents=True)
    (tmp_path / "data" / "shop" / "log.csv").write_text("\n".join(rows))
    file = tmp_path / "r.json"
    monkeypatch.setenv("TWOTOWER_DATA", str(tmp_path / "data"))
    run("event_kinds.py", "--no-model", "--out", tmp_path / "out", "--results", file)
    found = {(row.dataset, row.model) for row in read_results(file).rows}
    assert {("shop-alike", "ease"), ("shop-weights", "item-knn"), ("shop-target", "als")} <= found
    assert {row.users for row in read_results(file).rows} == {40}


def test_growth_times_functions_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for module, name in importlib.import_module("growth").PARTS.values():
        assert callable(operator.attrgetter(name)(importlib.import_module(module)))


def test_first_minutes_times_each_way_to_each_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psutil", reason="psutil comes with the extra 'bench'")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("first_minutes")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "log.csv").touch()
    looks = module.Way(("true",), {"sample": ("true",), "shop": ("test -e shop/log.csv", "true")})
    out = tmp_path / "minutes.json"
    for way in ("clone", "bought"):
        monkeypatch.setattr(module, "WAYS", {way: looks})
        line = [
            "first_minutes.py",
            "--way",
            way,
            "--shop",
            str(tmp_path / "shop"),
            "--out",
            str(out),
        ]
        monkeypatch.setattr(sys, "argv", line)
        module.main()
    rows = read_results(out).rows
    assert [(row.model, row.dataset) for row in rows if row.metric == "seconds"] == [
        ("clone", "sample"), ("clone", "shop"), ("bought", "sample"), ("bought", "shop"),
    ]  # fmt: skip
    assert all(row.value >= 0 for row in rows)
