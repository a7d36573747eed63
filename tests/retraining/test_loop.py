"""The loop end to end, on a model that anything trained is better than."""

import json
import time
from pathlib import Path

import pytest

from twotower.bundle.storage import load_bundle
from twotower.errors import InputError
from twotower.retraining import RetrainSettings, Shelf, Thresholds, loop, retrain, roll_back
from twotower.retraining.loop import WORK
from twotower.service.service import Service
from twotower.service.settings import ServeSettings
from twotower.service.state import Cursor, Event

NOTHING_ASKED = Thresholds(
    least_users=1, most_loss=1, least_coverage=0, most_new_item_share=1, most_latency=1000
)
PASSES = RetrainSettings(thresholds=NOTHING_ASKED)
REFUSES = RetrainSettings(thresholds=NOTHING_ASKED.vary(least_coverage=100))


def test_a_better_model_is_served_and_can_be_rolled_back(bundle, store) -> None:
    out = bundle.parent
    service = Service(ServeSettings(bundle=bundle, poll_s=60))
    outcome = retrain(bundle, store, out, PASSES)
    assert outcome.result == "served"
    found = outcome.verdict.comparison
    assert found.users > 30
    assert found.low > 0, "an untrained model is found worse"
    assert outcome.new_events == 240

    made = load_bundle(out / outcome.name)
    assert made.manifest.info.fitted_on == "all"
    assert made.manifest.info.metrics == {"NDCG@10": pytest.approx(found.new.ndcg)}
    known = load_bundle(bundle).contents
    assert set(known.users.ids) == set(made.contents.users.ids)
    assert len(made.contents.histories.items) == len(known.histories.items) + 240
    assert not (out / WORK).exists()

    service.reload(outcome.name)  # as it follows by itself
    assert service.manifest.model_version == outcome.model_version
    entry = roll_back(bundle, store, out)
    assert entry.name is None
    assert store.bundle("current").name is None
    assert [one.outcome for one in Shelf(out).entries] == ["served", "rolled-back"]
    with pytest.raises(InputError, match="names no bundle that was served before"):
        roll_back(bundle, store, out)
    service.close()


def test_a_refused_model_changes_nothing_but_the_index(bundle, store) -> None:
    outcome = retrain(bundle, store, bundle.parent, REFUSES)
    assert outcome.result == "refused"
    assert "least_coverage is 100 times that" in outcome.verdict.reasons[0]
    assert store.bundle("current") is None
    names = {path.name for path in bundle.parent.iterdir() if path.is_dir()}
    assert names == {"current"}
    assert [one.outcome for one in Shelf(bundle.parent).entries] == ["served", "refused"]


def test_it_goes_on_where_it_was_killed(bundle, store, monkeypatch) -> None:
    """At any step: what was finished is not done again, and the old model goes on."""
    out, calls = bundle.parent, []

    def counted(name: str):
        real = getattr(loop, name)

        def call(*arguments, **options):
            calls.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(loop, name, call)

    steps = ("write_source", "prepare", "compared", "shipped_contents")
    for name in steps:
        counted(name)
    for name in ("prepare", "trained_model", "compared", "shipped_contents", "write_bundle"):
        with monkeypatch.context() as patch:

            def killed(*_, **__) -> None:
                raise KeyboardInterrupt

            patch.setattr(loop, name, killed)
            with pytest.raises(KeyboardInterrupt):
                retrain(bundle, store, out, PASSES)
        assert store.bundle("current") is None
    assert retrain(bundle, store, out, PASSES).result == "served"
    assert calls.count("write_source") == calls.count("prepare") == calls.count("compared") == 1


def test_a_user_forgotten_meanwhile_is_not_learned_from(bundle, store, blocks, monkeypatch) -> None:
    user = blocks.users.ids[7]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "trained_model", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            retrain(bundle, store, bundle.parent, PASSES)
    store.forget([user])
    outcome = retrain(bundle, store, bundle.parent, PASSES)
    made = load_bundle(bundle.parent / outcome.name).contents
    assert user not in made.users
    assert len(made.users) == len(blocks.users) - 1


def test_users_who_came_in_the_newest_events_get_popular_items(bundle, store, blocks) -> None:
    last = store.changes(Cursor()).events[-1].occurred_at
    store.add_events(
        [
            Event(
                event_id=f"late-{number}", user_id=f"late-{number}",
                item_id=blocks.items.ids[number], kind="buy", occurred_at=last + 1 + number,
            )
            for number in range(9)
        ]
    )  # fmt: skip
    outcome = retrain(bundle, store, bundle.parent, REFUSES)
    assert outcome.verdict.comparison.users > 60


def test_nothing_new_is_nothing_done(bundle, store, blocks) -> None:
    store.forget(blocks.users.ids)
    store.add_events(
        [Event(event_id="v", user_id="x", item_id="y", kind="view", occurred_at=17 * 10**11)]
    )
    assert retrain(bundle, store, bundle.parent).result == "nothing-new"


def test_the_last_bundles_are_kept(bundle, store, blocks) -> None:
    out, keep = bundle.parent, PASSES.vary(keep=2, refit=False)
    names = []
    last = store.changes(Cursor()).events[-1].occurred_at
    for number in range(3):
        later = last + 10**6 * (number + 1)
        store.add_events(
            [
                Event(
                    event_id=f"x{number}-{user}", user_id=blocks.users.ids[user],
                    item_id=blocks.items.ids[1 - user % 2 + 2 * number], kind="buy",
                    occurred_at=later + user,
                )
                for user in range(60)
            ]
        )  # fmt: skip
        time.sleep(1)  # names are of the second
        names.append(retrain(bundle, store, out, keep).name)
    there = {path.name for path in out.iterdir() if path.is_dir()}
    assert there == {"current", *names[1:]}
    assert roll_back(bundle, store, out).name == names[1]


def test_one_run_at_a_time(bundle, store) -> None:
    from filelock import FileLock

    with FileLock(bundle.parent / f"{WORK}.lock"), pytest.raises(InputError, match="another"):
        retrain(bundle, store, bundle.parent)


def test_the_commands(bundle, store, tmp_path: Path, capsys, exit_code) -> None:
    config, report = tmp_path / "config.toml", tmp_path / "report.json"
    config.write_text("refit = false\n[thresholds]\nleast_coverage = 100\n")

    wanted = ("retrain", "--bundle", bundle, "--config", config, "--json", report)
    assert exit_code(*wanted) == 3
    assert json.loads(report.read_text())["result"] == "refused"
    limits = "least_users = 1\nmost_loss = 1.0\nleast_coverage = 0\nmost_latency = 1000\n"
    config.write_text(f"refit = false\n[thresholds]\n{limits}")
    assert exit_code(*wanted) == 0
    name = json.loads(report.read_text())["name"]
    assert store.bundle("current").name == name
    assert exit_code("rollback", "--bundle", bundle) == 0
    assert store.bundle("current").name is None
    config.write_text("unknown = 1\n")
    assert exit_code(*wanted) == 2
