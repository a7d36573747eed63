import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from twotower.errors import InputError
from twotower.evaluation.results import Results
from twotower.reporting.picture import MARKS, render_picture, write_picture
from twotower.reporting.study_results import StudyFigures

SVG = "{http://www.w3.org/2000/svg}"


def marks(root: ElementTree.Element) -> dict[str, tuple[float, float, str]]:
    """Model → place of its marker, and the marker's style."""
    found = {}
    for group in root.iter(f"{SVG}g"):
        model = group.get("id", "").partition("mark-")[2]
        for use in group.iter(f"{SVG}use") if model else ():
            style = str(use.get("style"))
            found[model] = float(str(use.get("x"))), float(str(use.get("y"))), style
    return found


def texts(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    """Text → where it is anchored."""
    found = {}
    for element in root.iter(f"{SVG}text"):
        place = re.search(r"translate\(([\d.]+) ([\d.]+)\)", element.get("transform", ""))
        x, y = place.groups() if place else (element.get("x"), element.get("y"))
        found[str(element.text)] = float(str(x)), float(str(y))
    return found


def test_marks_stand_where_the_figures_say(study_figures: StudyFigures, tmp_path: Path) -> None:
    write_picture(tmp_path / "study.svg", study_figures)
    root = ElementTree.parse(tmp_path / "study.svg").getroot()
    words = texts(root)
    assert {"v4 vs v1", "v8 vs v4 †", "title text <b>", "0", *MARKS} <= set(words)
    found = marks(root)
    for model, verdict in (("v4", "helps"), ("v8", "no difference shown")):
        assert MARKS[verdict]["color"].lower() in found[model][2]
    (helps, first, _), (nothing, second, _) = found["v4"], found["v8"]
    assert first < second  # in the order of the study
    zero = words["0"][0]
    assert (helps - zero) / (zero - nothing) == pytest.approx(10, rel=0.02)  # 0.01 and -0.001


def test_all_of_it_is_inside_the_frame(study_figures: StudyFigures) -> None:
    root = ElementTree.fromstring(render_picture(study_figures, "sampled-100"))
    _, _, width, height = map(float, str(root.get("viewBox")).split())
    places = [*texts(root).values(), *(mark[:2] for mark in marks(root).values())]
    assert len(places) > 10
    for x, y in places:
        assert 0 <= x <= width
        assert 0 <= y <= height


def test_every_run_gives_the_same_bytes(study_figures: StudyFigures) -> None:
    assert render_picture(study_figures) == render_picture(study_figures)


def test_without_matplotlib_the_error_names_the_extra(
    study_figures: StudyFigures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"matplotlib, which is not installed; run pip install"):
        write_picture(tmp_path / "study.svg", study_figures)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_draw_is_an_error(study_results: Results) -> None:
    only = Results(meta=study_results.meta, rows=study_results.rows)
    with pytest.raises(InputError, match=r"^no differences of NDCG@10 under 'full' to draw; pass"):
        render_picture(StudyFigures.of([only]))
