import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from twotower.errors import InputError
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Results, Row, write_results
from twotower.reporting.markdown import main, render

DOCUMENT = """# Title

    <!-- results: an indented marker is an example -->

<!-- results: toy.json protocol=full metrics=HR@10,MRR -->
what was here before
<!-- end -->

Between.

<!-- results: toy.json protocol=full-unmasked metrics=HR@10 models=mf intervals=yes digits=2 -->
<!-- end -->
The end.
"""
RENDERED = """# Title

    <!-- results: an indented marker is an example -->

<!-- results: toy.json protocol=full metrics=HR@10,MRR -->
| model | HR@10 | MRR |
| --- | ---: | ---: |
| popularity | 0.1000 | 0.2000 |
| mf | 0.3000 | 0.4000 |
<!-- end -->

Between.

<!-- results: toy.json protocol=full-unmasked metrics=HR@10 models=mf intervals=yes digits=2 -->
| model | HR@10 |
| --- | ---: |
| mf | 0.25 [0.20, 0.30] |
<!-- end -->
The end.
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def row(model: str, protocol: str, metric: str, value: float) -> Row:
        return Row(
            dataset="toy", split="s", model=model, protocol=protocol, metric=metric, value=value,
            low=value - 0.05, high=value + 0.05, users=3,
        )  # fmt: skip

    rows = [
        row("popularity", "full", "HR@10", 0.1),
        row("popularity", "full", "MRR", 0.2),
        row("mf", "full", "HR@10", 0.3),
        row("mf", "full", "MRR", 0.4),
        row("popularity", "full-unmasked", "HR@10", 0.05),
        row("mf", "full-unmasked", "HR@10", 0.25),
    ]
    write_results(tmp_path / "toy.json", collect_meta(datetime.now(UTC), command=["x"]), rows)
    (tmp_path / "README.md").write_text(DOCUMENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tables_are_made_from_the_results(folder: Path) -> None:
    assert render(DOCUMENT, folder) == RENDERED
    assert render(RENDERED, folder) == RENDERED


def test_protocols_are_columns_of_a_metric(folder: Path) -> None:
    what = "toy.json protocols=full,full-unmasked metrics=HR@10 models=mf"
    shown = render(f"<!-- results: {what} -->\n<!-- end -->\n", folder)
    assert shown.splitlines()[1] == "| model | full | full-unmasked |"
    assert shown.splitlines()[3].endswith("| 0.2500 |")
    with pytest.raises(InputError, match="'other'"):
        render(f"<!-- results: {what.replace('full,', 'other,')} -->\n<!-- end -->\n", folder)


def test_several_data_sets_are_one_table(folder: Path) -> None:
    (folder / "datasets-toy.json").write_text((folder / "toy.json").read_text())
    what = "datasets-*.json table=datasets protocol=full metrics=MRR models=mf,als"
    shown = render(f"<!-- results: {what} -->\n<!-- end -->\n", folder)
    assert shown.splitlines()[1:-1] == [
        "| data set | users | mf | als |",
        "| --- | ---: | ---: | ---: |",
        "| toy | 3 | 0.4000 | – |",
    ]
    published = [
        {"dataset": "toy", "metric": "MRR", "value": value, "model": "theirs", "source": "url"}
        for value in (0.4, 0.45)
    ]
    (folder / "published.json").write_text(json.dumps({"rows": published}))
    shown = render(f"<!-- results: {what} published=published.json -->\n<!-- end -->\n", folder)
    assert shown.splitlines()[1].endswith("| als | best published |")
    assert shown.splitlines()[3] == "| toy | 3 | 0.4000 | – | 0.4500 [theirs](url) |"
    with pytest.raises(InputError, match="needs results files, and models, metrics and protocol"):
        render(f"<!-- results: no{what} -->\n<!-- end -->\n", folder)


def test_models_come_in_the_given_order(folder: Path) -> None:
    text = "<!-- results: toy.json protocol=full metrics=MRR models=mf,popularity -->\n<!-- end -->"
    lines = render(text, folder).splitlines()
    assert [line.split()[1] for line in lines[3:5]] == ["mf", "popularity"]


def test_the_command_checks_then_rewrites(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "docs").mkdir()
    (folder / "docs" / "other.md").write_text("No results here.\n")
    assert main(["--check"]) == 1
    assert capsys.readouterr().out == "README.md: out of date\n"
    assert (folder / "README.md").read_text() == DOCUMENT
    assert main([]) == 0
    assert capsys.readouterr().out == "README.md: rewritten\n"
    assert (folder / "README.md").read_text() == RENDERED
    assert main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_the_command_names_the_wrong_document(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.md").write_text("<!-- results: none.json metrics=MRR -->\n<!-- end -->\n")
    assert main(["bad.md"]) == 2
    assert capsys.readouterr().err == (
        "bad.md: none.json cannot be read: No such file or directory; give a file that "
        "'twotower evaluate', 'run' or 'ablate' wrote with --json\n"
    )
    assert main(["missing.md"]) == 2


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("toy.json protocol=full", "names no metrics; add metrics=HR@10,NDCG@10"),
        ("toy.json metric=MRR", "unknown option 'metric=MRR' of results block"),
        ("toy.json full metrics=MRR", "unknown option 'full' of results block"),
        ("toy.json metrics=HR@10", "two figures for HR@10 of popularity; select one"),
        ("toy.json protocol=full metrics=HR@9", "no row has the metric 'HR@9'"),
        ("toy.json protocol=full metrics=MRR models=mf,v9", "no figures of v9"),
        ("toy.json protocol=full metrics=MRR intervals=1", "needs intervals=yes or no"),
        ("toy.json protocol=full metrics=MRR digits=x", "a number of digits"),
    ],
)
def test_a_block_that_cannot_be_rendered_is_refused(folder: Path, block: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        render(f"<!-- results: {block} -->\n<!-- end -->\n", folder)


@pytest.mark.parametrize("second", ["", "<!-- results: toy.json -->\n<!-- end -->\n"])
def test_a_block_without_an_end_is_refused(folder: Path, second: str) -> None:
    with pytest.raises(InputError, match="a results block has no end; close it with a line"):
        render(f"<!-- results: toy.json metrics=MRR -->\ntext\n{second}", folder)


def test_a_block_can_show_a_study(study_results: Results, tmp_path: Path) -> None:
    write_results(
        tmp_path / "study.json", study_results.meta, study_results.rows,
        differences=study_results.differences, absent=study_results.absent,
        models=study_results.models,
    )  # fmt: skip
    block = "<!-- results: study.json table=study -->\n<!-- end -->\n"
    shown = render(block, tmp_path)
    assert "| v7 | image embeddings | no images in this data set |" in shown
    assert render(shown, tmp_path) == shown
