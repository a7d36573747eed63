import json
from pathlib import Path

from twotower.demo.figures import find_figures, places, stamp
from twotower.evaluation.results import read_results, write_results


def test_reads_results_and_skips_other_files(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text((run_folder / "results.json").read_text())
    (tmp_path / "published.json").write_text(json.dumps({"source": "a paper", "rows": []}))
    (tmp_path / "cut.json").write_text('{"meta": {')
    (tmp_path / "wrong.json").write_text(json.dumps({"meta": {}, "rows": []}))
    found = find_figures([tmp_path, tmp_path / "a.json", tmp_path / "missing.json"])
    assert [path.name for path in found.files] == ["a.json"]
    assert {path.name for path in found.broken} == {"cut.json", "wrong.json"}
    assert found.studies() == [("blocks", "leave-last-two")]
    assert len(found.of("blocks", "leave-last-two")[0].rows) == 8
    assert found.of("blocks", "another split") == []


def test_the_default_model_has_the_name_of_the_product(run_folder: Path, tmp_path: Path) -> None:
    results = read_results(run_folder / "results.json")
    like = results.rows[0]
    rows = [like.model_copy(update={"model": name}) for name in ("v10", "v10+rerank", "v9")]
    write_results(tmp_path / "results.json", results.meta, rows, models={"v10": "sizes by the log"})
    (found,) = find_figures([tmp_path]).files.values()
    assert [row.model for row in found.rows] == ["two-tower", "two-tower, both stages", "v9"]
    assert found.models == {"two-tower": "sizes by the log"}


def test_given_paths_replace_the_default_ones(tmp_path: Path) -> None:
    assert places(tmp_path / "bundle", [Path("mine.json")]) == [Path("mine.json")]


def test_results_of_the_bundle_are_found_and_count_last(tmp_path: Path) -> None:
    own = [
        tmp_path / "results.json",
        *(tmp_path / "bundle" / name for name in ("results.json", "results")),
    ]
    assert places(tmp_path / "bundle", [])[-3:] == own


def test_the_stamp_changes_with_the_files(tmp_path: Path) -> None:
    before = stamp([tmp_path])
    (tmp_path / "new.json").write_text("{}")
    assert stamp([tmp_path]) != before
    assert stamp([tmp_path / "missing.json"]) == ()
