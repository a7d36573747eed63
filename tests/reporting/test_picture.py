from pathlib import Path
from xml.etree import ElementTree

import pytest

from twotower.errors import InputError
from twotower.evaluation.results import Results
from twotower.reporting.picture import COLOURS, render_picture, write_picture
from twotower.reporting.study_results import StudyFigures

SVG = "{http://www.w3.org/2000/svg}"


def test_marks_stand_where_the_figures_say(study_figures: StudyFigures, tmp_path: Path) -> None:
    write_picture(tmp_path / "study.svg", study_figures)
    root = ElementTree.parse(tmp_path / "study.svg").getroot()
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert {"v4 vs v1", "v8 vs v4 †", "title text <b>", "0"} <= set(texts)
    marks = list(root.iter(f"{SVG}circle"))[2:]  # behind those of the legend
    assert [mark.get("stroke") for mark in marks] == [
        COLOURS["helps"],
        COLOURS["no difference shown"],
    ]
    helps, nothing = (float(str(mark.get("cx"))) for mark in marks)
    zero = next(float(str(e.get("x"))) for e in root.iter(f"{SVG}text") if e.text == "0")
    assert (helps - zero) / (zero - nothing) == pytest.approx(10, rel=0.02)  # 0.01 and -0.001


def test_all_of_it_is_inside_the_frame(study_figures: StudyFigures) -> None:
    root = ElementTree.fromstring(render_picture(study_figures, "sampled-100"))
    _, _, width, height = map(float, str(root.get("viewBox")).split())
    for element in root.iter():
        for name, most in (("x", width), ("cx", width), ("x2", width), ("y", height)):
            if element.get(name):
                assert 0 <= float(str(element.get(name))) <= most


def test_nothing_to_draw_is_said(study_results: Results) -> None:
    only = Results(meta=study_results.meta, rows=study_results.rows)
    with pytest.raises(InputError, match=r"^no differences of NDCG@10 under 'full' to draw; pass"):
        render_picture(StudyFigures.of([only]))
