"""The tutorials' commands and code, run as they stand on a small generated shop."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from twotower import Recommender
from twotower.bundle.storage import load_bundle
from twotower.cli import main
from twotower.data import Part
from twotower.data.prepare import prepare
from twotower.service.state import Event, StateStore

TESTS = Path(__file__).resolve().parent
TUTORIALS = TESTS.parent / "docs" / "tutorials"
USERS, ITEMS = 60, 40
PATIENCE_S = 180


def blocks(language: str, tutorial: str = "own-data") -> list[str]:
    page = (TUTORIALS / f"{tutorial}.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def commands(tutorial: str) -> list[list[str]]:
    lines = [line for block in blocks("sh", tutorial) for line in block.strip().splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def run(words: list[str]) -> None:
    """One command of a tutorial, as a shell would run it."""
    if words[0] != "twotower":
        subprocess.run(words, check=True)
        return
    if words[1] in ("train", "evaluate"):  # the text encoder of the extra takes long to load
        words = [*words, "--text-encoder", "hashing"]
    with pytest.raises(SystemExit) as stopped:
        main(words[1:])
    assert not stopped.value.code, words


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A shop of the shape that the tutorial describes, with the same bad rows."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "shop"
    folder.mkdir()
    skus = [f"SKU-{item:05}" for item in range(ITEMS)]
    with (folder / "catalogue.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(
            ["sku", "name", "brand", "tags", "colour", "price", "in_stock", "launch_date"]
        )
        for item, sku in enumerate(skus):
            tags = json.dumps([("helmet", "küche")[item % 2], "sommer"], ensure_ascii=False)
            price = f"EUR {1000 + item:,}.50".translate(str.maketrans(",.", ".,"))
            day = f"2024-01-{item % 28 + 1:02}"
            rows.writerow([sku, f"Ding {item}", "Velo9", tags, "blau", price, "true", day])
    with (folder / "users.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["customer", "age", "country", "segment"])
        rows.writerows([[f"C{user:06}", "" if user % 7 == 0 else 20 + user, "DE", "new"]
                        for user in range(USERS)])  # fmt: skip
    with (folder / "log.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["customer", "sku", "when", "kind", "qty"])
        for user in range(USERS):
            for place, item in enumerate(2 * rng.permutation(ITEMS // 2)[:10] + user % 2):
                when = f"2025-06-{place + 1:02}T10:00:00+0{1 + place % 2}:00"
                rows.writerow([f"C{user:06}", skus[item], when, "view", 1])
                rows.writerow([f"C{user:06}", skus[item], when, ("cart", "buy")[place % 2], 1])
            rows.writerow([f"C{user:06}", skus[user % 2], "2025-07-01T00:00:00+02:00", "buy", -1])
        rows.writerow(["", skus[0], "2025-06-01T10:00:00+01:00", "buy", 1])
        rows.writerow(["C000000", "SKU-99999", "2025-06-01T10:00:00+01:00", "buy", 1])
        rows.writerow(["C000000", skus[0], "gestern", "buy", 1])
    return folder


@pytest.mark.usefixtures("small_models")
def test_seven_steps_from_files_to_recommendations(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    said = []
    for words in commands("own-data"):
        run(words)
        said.append(capsys.readouterr().out)
        if words[1] == "inspect":
            guessed = (shop / "dataset.toml").read_text()
            (shop / "dataset.toml").write_text(blocks("toml")[0])
    assert len(said) == 7  # a step is to edit the file, and there are two ways to recommend
    for guess in ('time = "when"  # a guess', 'event = "kind"  # a guess', 'tags = "list"'):
        assert guess in guessed
    assert '# weights = { "view" = 1, "buy" = 1, "cart" = 1 }' in guessed
    # The two items that nearly everybody returned fall out of the 3-core.
    assert "60 users, 38 items, 577 interactions" in said[1]
    assert re.search(r"kinds of events kept: view \d+, buy \d+", said[1])
    for told in (
        "60 returns and other negative events took",
        "gestern",
        "SKU-99999",
        "colour",
        "category=tags",
    ):
        assert told in said[1]
    table = pl.read_parquet("recommendations.parquet")
    assert table["user_id"].n_unique() == USERS
    assert set(table["source"]) == {"model"}

    names: dict[str, Any] = {}
    fit = 'fit(dataset, "v9"'
    exec(blocks("python")[0].replace(fit, f'{fit}, text_encoder="hashing"'), names)
    assert names["table"]["user_id"].unique().len() == 2
    assert names["same"].users == names["dataset"].users
    prices = names["dataset"].catalogue["price"].to_list()
    assert prices[0] == pytest.approx(1002.5)


@pytest.fixture
def declared(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shop as the first tutorial declares it, in the working folder."""
    (shop / "dataset.toml").write_text(blocks("toml")[0])
    monkeypatch.chdir(tmp_path)
    return shop


@pytest.fixture
def bundle(declared: Path, small_models: None, tmp_path: Path) -> Path:
    """What the first tutorial ends with."""
    folder: Path = Recommender.fit(prepare(declared), text_encoder="hashing").save("bundle")
    return folder


@pytest.mark.usefixtures("small_models")
def test_cold_start(declared: Path, capsys: Any) -> None:
    with (declared / "dataset.toml").open("a") as file:
        file.write("\n" + blocks("toml", "cold-start")[0])
    names: dict[str, Any] = {}
    for block in blocks("python", "cold-start"):
        exec(block.replace("fit(dataset)", 'fit(dataset, text_encoder="hashing")'), names)
    assert len(capsys.readouterr().out.splitlines()) == 10
    for name in ("wanted", "popular", "at_home"):
        assert len(names[name]) == 5, name
    assert names["wanted"][0].title is not None
    for words in commands("cold-start"):
        run(words)
    said = capsys.readouterr().out
    for table in ("new-users", "known-users", "new-items", "history-3-all", "popularity"):
        assert table in said


@pytest.mark.usefixtures("bundle")
def test_serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for words in commands("serving"):
        if words[1] == "serve":
            break
        run(words)
    monkeypatch.setenv("TWOTOWER_KEY", capsys.readouterr().out.split()[1])
    log = tmp_path / "log"
    options = ["0" if word == "8000" else word for word in words[1:]]
    with log.open("w") as file:
        code = "from twotower.cli import main; main()"
        service = subprocess.Popen([sys.executable, "-c", code, *options], stderr=file)
    try:
        until = time.monotonic() + PATIENCE_S
        while not (heard := re.search(r'"listening".*"port": (\d+)', log.read_text())):
            assert service.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        names: dict[str, Any] = {}
        try:
            for block in blocks("python", "serving"):
                exec(block.replace(":8000", f":{heard.group(1)}"), names)
            sold_out = names["client"].recommend("C000001", k=10)
        finally:
            names["client"].close()
        assert len(names["visitor"]) == len(names["like_it"]) == 5
        assert names["items"][1] not in [item["item_id"] for item in sold_out]
    finally:
        service.send_signal(signal.SIGTERM)
        code = service.wait(PATIENCE_S)
    assert code in (0, -signal.SIGTERM), log.read_text()


def test_retraining(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    current = bundle.rename(tmp_path / "bundles" / "current")
    contents = load_bundle(current).contents
    log = contents.histories
    last = int(log.timestamps.max())  # type: ignore[union-attr]
    store = StateStore(f"sqlite:///{tmp_path / 'bundles' / 'state.sqlite3'}")
    events = []
    for user, name in enumerate(contents.users.ids):
        had = set(log.row(user).tolist())
        free = [row for row in range(user % 2, len(contents.items), 2) if row not in had]
        events += [
            Event(
                event_id=f"{name}-{place}", user_id=name, item_id=contents.items.ids[row],
                kind="buy", occurred_at=last + 1000 * (60 * place + user) + 1,
            )
            for place, row in enumerate(free[:4])
        ]  # fmt: skip
    store.add_events(events)
    store.close()
    # Neither quality nor speed of so small a model on a busy machine is the question here.
    thresholds = "most_loss = 1\nmost_latency = 1000\n"
    Path("retrain.toml").write_text(blocks("toml", "retraining")[0] + thresholds)
    retrain, rollback = commands("retraining")
    run(retrain)
    outcome = json.loads(Path("outcome.json").read_text())
    assert outcome["result"] == "served"
    assert outcome["new_events"] == len(events)
    run(rollback)
    index = json.loads((tmp_path / "bundles" / "bundles.json").read_text())
    assert "rolled-back" in json.dumps(index)


def test_the_suite_of_a_model_of_ones_own(tmp_path: Path) -> None:
    test = tmp_path / "test_mean_history.py"
    test.write_text(blocks("python", "adding-a-model")[1])
    path = os.pathsep.join((str(TESTS / "plugin_package"), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", test],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.parametrize("tutorial", sorted(path.stem for path in TUTORIALS.glob("*.md")))
def test_commands_have_the_options_that_are_named(tutorial: str) -> None:
    from typer.main import get_command

    from twotower.cli import _app

    known = get_command(_app()).commands  # type: ignore[attr-defined]
    for words in commands(tutorial):
        if words[0] == "twotower":
            options = {name for option in known[words[1]].params for name in option.opts}
            assert {word for word in words if word.startswith("-")} <= options, words


def test_the_shop_of_the_shared_data(real_data: Path, tmp_path: Path) -> None:
    """Steps 2 and 3 on the made-up shop of the tutorial's rows."""
    source = real_data / "shop"
    if not source.is_dir():
        pytest.skip("shop not found among the real data")
    folder = tmp_path / "shop"
    folder.mkdir()
    for file in source.glob("*.csv"):
        (folder / file.name).symlink_to(file)
    (folder / "dataset.toml").write_text(blocks("toml")[0])
    dataset = prepare(folder)
    assert dataset.summary["read"] == 117_961
    rejected = dataset.summary["rejected"]
    assert sum(rejected.values()) == 3
    assert dataset.summary["returns"]["events"] == 1972
    assert dataset.returned is not None
    assert len(dataset.returned.items)
    _, targets = dataset.held_out(Part.TEST)
    assert targets.kinds is not None
    assert dataset.interactions.rules is not None
    assert {dataset.interactions.rules.kinds[kind] for kind in targets.kinds.tolist()} == {"buy"}
    assert dataset.catalogue["price"].null_count() < 0.05 * len(dataset.items)
    assert dataset.user_table is not None
    assert dataset.user_table.columns == ["user_id", "age", "country", "segment"]
