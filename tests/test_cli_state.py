"""`twotower forget`, `backup`, `restore` and `live`."""

import json
from collections import Counter
from pathlib import Path

from twotower.service.state import Cursor, Event, StateStore, live, shadow
from twotower.service.state.distinct import DistinctItems
from twotower.service.state.shadow import ListCounts, ShadowCounts, time_bucket


def test_forget_back_up_and_restore(cli, tmp_path: Path) -> None:
    state = f"sqlite:///{tmp_path / 'state.sqlite3'}"
    store = StateStore(state)
    store.add_events(
        [
            Event(event_id=user, user_id=user, item_id="i", kind="buy", occurred_at=5)
            for user in ("ann", "bob", "cid")
        ]
    )
    copy, ids, report = tmp_path / "copy", tmp_path / "ids", tmp_path / "report.json"
    ids.write_text("bob\n\n")
    assert cli("backup", "--state", state, "--out", copy)[0] == 0
    status, out, _ = cli("forget", "ann", "--file", ids, "--state", state, "--json", report)
    assert (status, out.splitlines()) == (0, ["2 users forgotten, 2 rows deleted"])
    assert json.loads(report.read_text()) == {"users": 2, "rows_deleted": 2, "unconfirmed": 0}
    store.close()
    assert cli("forget", "--save-list", tmp_path / "list", "--state", state)[0] == 0
    status, out, _ = cli("restore", copy, "--state", state, "--list", tmp_path / "list")
    assert status == 0
    assert "2 users forgotten since it was made, 2 rows deleted" in out
    assert cli("forget", "--from-list", tmp_path / "list", "--state", state)[0] == 0
    store = StateStore(state)
    assert [one.user_id for one in store.changes(Cursor()).events] == ["cid"]
    store.close()


def test_what_cannot_be_done_is_said(cli, tmp_path: Path) -> None:
    state = f"sqlite:///{tmp_path / 'state.sqlite3'}"
    for arguments, message in (
        (("forget", "--state", state), "no user is named"),
        (("backup", "--state", state, "--out", tmp_path / "x"), "there is no database"),
        (("restore", tmp_path / "x", "--state", state), "there is no back-up"),
        (("backup", "--state", "postgresql://h/x", "--out", tmp_path / "x"), "pg_dump"),
    ):
        status, _, error = cli(*arguments)
        assert status == 2
        assert message in error


def test_live_tells_what_a_shadow_would_have_shown(cli, tmp_path: Path) -> None:
    state = f"sqlite:///{tmp_path / 'state.sqlite3'}"
    wanted = ("live", "--bundle", tmp_path / "bundle", "--state", state)
    store = StateStore(state)
    store.write(live.set_split, "bundle", "later", 0.5, "shadow")
    out = cli(*wanted)[1]
    assert "shadow: later answered 0 requests unseen, failed at 0, had no time for 0" in out
    times = Counter({time_bucket(0.002): 2})
    lists = ListCounts(20, 1, 0.003, times, DistinctItems.of(["a", "b"]))
    store.write(shadow.add_counts, 1, ShadowCounts(2, 3, 1, 1.5, 1, lists, lists))
    store.close()
    status, out, _ = cli(*wanted, "--json", tmp_path / "live.json")
    assert status == 0
    assert "later answered 2 requests unseen, failed at 1, had no time for 3" in out
    assert "its lists have 75.0% of the items in common with those shown, and 50.0% of them" in out
    assert "later: 1.50 ms a list, 99% within 2.0" in out
    assert "2 different items, 5.0% of places without events in training" in out
    found = json.loads((tmp_path / "live.json").read_text())["shadow"]
    assert (found["bundle"], found["share"], found["b"]["items"]) == ("later", 0.5, 2)
