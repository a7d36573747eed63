import importlib.util
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from twotower.cli import main
from twotower.errors import InputError
from twotower.evaluation.results import Results, write_results
from twotower.reporting.page import render_page, write_page
from twotower.reporting.study_results import StudyFigures

QUESTIONS = [
    "All models",
    "Which change helps, by full ranking?",
    "Which change helps, among 100 sampled negatives?",
    "Do sampled negatives rank models alike?",
    "How do the public reference's figures compare?",
    "How much history does a model need?",
    "Are users with short or long histories served better?",
    "How good is it for users held out of training?",
    "Are items without interactions found?",
    "What do the towers weigh?",
    "How does quality rise during training?",
    "How long does training take?",
    "Provenance",
]


class Headings(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.inside = tag == "h2"

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found.append(data)


def headings(page: str) -> list[str]:
    parser = Headings()
    parser.feed(re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))
    return parser.found


def test_results_without_a_study_name_no_changes(study_figures: StudyFigures) -> None:
    page = render_page(replace(study_figures, differences=()))
    found = headings(page)
    assert found[:2] == ["All models", "How good is each model, by full ranking?"]
    words = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert f"<h1>Models on {study_figures.dataset}</h1>" in words
    for absent in ("ablation", "verdict", "parent", ">change<", "Of 0 changes"):
        assert absent not in words


def test_every_section_has_a_sentence_and_a_chart(study_figures: StudyFigures) -> None:
    page = render_page(study_figures)
    assert headings(page) == QUESTIONS
    assert page.count('class="answer"') == page.count('class="reading"') == len(QUESTIONS) - 1
    titles = [title.strip() for title in re.findall(r"<title>(.*?)</title>", page, re.DOTALL)]
    assert [unescape(title) for title in titles[1:]] == QUESTIONS[1:-1]
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert {id.split("-")[1] for id in ids} == {str(place) for place in range(len(QUESTIONS) - 2)}
    assert "Of 2 changes, 1 helps, 0 hurt, and for 1 no difference is shown." in page
    assert "no images in this data set" in page


def test_the_page_needs_no_network_and_escapes_words(study_figures: StudyFigures) -> None:
    page = render_page(study_figures)
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "<script" not in page
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", page)
    assert len(page) < 500_000
    assert "title text &lt;b&gt;" in outside
    assert "title text <b>" not in outside
    assert 'href="https://example.org/paper"' in outside


def test_sections_without_figures_are_left_out(study_results: Results) -> None:
    rows = [row for row in study_results.rows if row.protocol == "full"]
    only = Results(meta=study_results.meta, rows=rows)
    page = render_page(StudyFigures.of([only]))
    best = "How good is each model, by full ranking?"
    assert headings(page) == ["All models", best, "Provenance"]
    assert "chart-1" not in page


def test_without_plotly_the_error_names_the_extra(
    study_figures: StudyFigures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"plotly, which is not installed; run pip install"):
        write_page(tmp_path / "page.html", study_figures)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_page_and_picture(
    study_results: Results, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, page, picture = (tmp_path / name for name in ("r.json", "r.html", "r.svg"))
    write_results(
        file, study_results.meta, study_results.rows, differences=study_results.differences
    )
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(file), "--out", str(page), "--picture", str(picture)])
    assert not stopped.value.code
    assert page.name in capsys.readouterr().out
    assert page.read_text().startswith("<!doctype html>")
    assert picture.read_text().startswith("<svg")
