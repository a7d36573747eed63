"""The tutorials' commands and code, run as they stand on a small generated shop."""

import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from twotower.cli import main
from twotower.data import Part
from twotower.data.prepare import prepare

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "tutorials" / "own-data.md"
USERS, ITEMS = 60, 40


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)


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
    for command in (line for block in blocks("sh") for line in block.strip().splitlines()):
        words = shlex.split(command)[1:]
        if words[0] in ("train", "evaluate"):  # the text encoder of the extra takes long to load
            words += ["--text-encoder", "hashing"]
        with pytest.raises(SystemExit) as stopped:
            main(words)
        printed = capsys.readouterr()
        assert not stopped.value.code, (command, printed)
        said.append(printed.out)
        if words[0] == "inspect":
            guessed = (shop / "dataset.toml").read_text()
            (shop / "dataset.toml").write_text(blocks("toml")[0])
    assert len(said) == 7  # a step is to edit the file, and there are two ways to recommend
    for guess in ('time = "when"  # a guess', 'event = "kind"  # a guess', 'category = "tags"'):
        assert guess in guessed
    assert '# weights = { "view" = 1, "buy" = 1, "cart" = 1 }' in guessed
    # The two items that nearly everybody returned fall out of the 3-core.
    assert "60 users, 38 items, 577 interactions" in said[1]
    assert re.search(r"kinds of events kept: view \d+, buy \d+", said[1])
    for told in ("60 returns and other negative events took", "gestern", "SKU-99999", "colour"):
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
