"""The commands around the service; what `serve` itself does is in tests/serving/test_process.py."""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from twotower.bundle import load_bundle
from twotower.service.api.auth import Scope, find_key, read_keys
from twotower.service.state import Event, StateStore


@pytest.fixture
def bundle(blocks: Any, small_variants: Any, tmp_path: Path) -> Path:
    """A bundle of a model that was not trained."""
    import torch

    from twotower.models.build import build_model
    from twotower.training.fit import Trained
    from twotower.training.progress import TrainingState
    from twotower.workflow.bundling import bundle_contents, write_bundle

    variant = small_variants["v1"]
    torch.manual_seed(0)
    trained = Trained(variant, 0, build_model(variant.model, blocks), TrainingState(""))
    write_bundle(tmp_path / "bundle", bundle_contents("v1", trained, blocks), trained)
    return tmp_path / "bundle"


@pytest.mark.parametrize("command", ["serve", "key", "events", "forget", "backup", "restore"])
def test_help_has_an_example(cli: Any, command: str) -> None:
    status, out, _ = cli(command, "--help")
    assert status == 0
    assert f"Example: twotower {command} " in re.sub(r"\s+", " ", out)


def test_a_key_is_shown_once_and_its_hash_is_kept(cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    for name, scope in (("shop", "write"), ("page", "read")):
        status, out, _ = cli("key", name, "--scope", scope, "--keys", file)
        assert status == 0
        key = out.split()[1]
        assert key not in file.read_text()
        found = find_key(read_keys(file), key)
        assert found is not None
        assert (found.name, found.scope) == (name, Scope[scope.upper()])
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_key_gets_a_line_of_its_own(cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    cli("key", "shop", "--keys", file)
    file.write_text(file.read_text().rstrip("\n"))
    assert cli("key", "page", "--keys", file)[0] == 0
    assert [key.name for key in read_keys(file)] == ["shop", "page"]


def test_batches_for_all_users_and_for_some(cli: Any, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.parquet"
    status, printed, error = cli(
        "recommend", "--bundle", bundle, "--batch", "all", "--out", out, "-k", 3
    )
    assert (status, error) == (0, "")
    assert "180 items for 60 users" in printed
    assert pl.read_parquet(out).height == 180
    pl.DataFrame({"user_id": ["u07", "u03"]}).write_parquet(tmp_path / "some.parquet")
    status, _, _ = cli(
        "recommend", "--bundle", bundle, "--batch", tmp_path / "some.parquet", "--out", out,
        "--json", tmp_path / "done.json",
    )  # fmt: skip
    assert status == 0
    assert pl.read_parquet(out)["user_id"].unique(maintain_order=True).to_list() == ["u07", "u03"]
    assert json.loads((tmp_path / "done.json").read_text())["users"] == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--batch", "all"], "--batch and --out go together"),
        (
            ["--batch", "all", "--out", "o", "--user", "u07"],
            "--batch takes its users from the file",
        ),
    ],
)
def test_batches_take_nothing_else(cli: Any, bundle: Path, more: Any, message: str) -> None:
    status, _, error = cli("recommend", "--bundle", bundle, *more)
    assert status == 2
    assert message in error


def test_rules_on_the_command_line(cli: Any, bundle: Path, tmp_path: Path) -> None:
    first, *_, pinned = load_bundle(bundle).contents.items.ids
    rules, answer = tmp_path / "rules.toml", tmp_path / "answer.json"
    rules.write_text(f'[[pin]]\nitem = "{pinned}"\nposition = 2\n[[block]]\nitems = ["gone"]\n')
    asked = ("recommend", "--bundle", bundle, "--rules", rules, "-k", 3)
    status, out, _ = cli(*asked, "--history", first, "--json", answer)
    assert status == 0
    assert re.search(rf"2 .* {pinned} .* pinned", out)
    assert "rules for items that the bundle lacks: gone" in out
    assert [item["rule"] for item in json.loads(answer.read_text())] == [None, "pinned", None]
    assert cli(*asked, "--batch", "all", "--out", tmp_path / "all.csv")[0] == 0
    table = pl.read_csv(tmp_path / "all.csv", schema_overrides={"item_id": pl.String})
    seconds = table.filter(pl.col("rank") == 2)["item_id"].to_list()
    assert seconds.count(pinned) > len(seconds) / 2  # of all who have not had it
    rules.write_text("[[pin]]\nposition = 2\n")
    status, _, error = cli(*asked, "--history", first)
    assert status == 2
    assert "pin.0.item: Field required" in error


def test_words_on_the_command_line(cli: Any, bundle: Path) -> None:
    status, out, _ = cli("recommend", "--bundle", bundle, "--text", "dragon saga", "-k", 3)
    assert status == 0
    assert "For a cold-start user who wants dragon saga" in out


def test_events_become_a_source_for_prepare(cli: Any, bundle: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.sqlite3'}"
    store = StateStore(url)
    event = Event(event_id="1", user_id="new", item_id="i01", kind="view", occurred_at=10**12)
    store.add_events([event])
    store.close()
    source = tmp_path / "source"
    status, out, _ = cli("events", "--bundle", bundle, "--kind", "view", "--out", source)
    assert status == 0
    assert "721 interactions (1 new) of 40 items (0 new)" in out
    status, out, _ = cli("prepare", source, "--out", tmp_path / "data", "--k-core", 0)
    assert status == 0
    assert "61 users, 40 items, 721 interactions" in out
    status, _, error = cli("events", "--bundle", bundle, "--kind", "stare", "--out", source)
    assert status == 2
    assert error == "twotower: unknown kind 'stare'; pass some of view, cart, buy, rating\n"
