import json
from pathlib import Path

import pytest

from twotower.errors import ArtefactError, InputError
from twotower.evaluation.results import Results
from twotower.reporting.sentences import agreement_in_words, extremes_in_words, newcomers_in_words
from twotower.reporting.study_results import Reference, StudyFigures, within_seeds
from twotower.reporting.table import study_markdown

PUBLISHED = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "reference.json"


def test_the_published_figures_are_those_of_the_reference() -> None:
    rows = Reference.read(PUBLISHED).rows
    sampled = {(row.model, row.metric): row.value for row in rows if row.protocol == "sampled-100"}
    assert sampled["v8", "NDCG@10"] == 0.4264
    assert sampled["v4-bpr", "HR@10"] == 0.2295
    assert {model for model, _ in sampled} >= {"mf", "lightgcn", "v1", "v2", "v3", "v7"}
    gates = [row.value for row in rows if row.metric.startswith("user-")]
    assert sum(gates) == pytest.approx(1)


def test_a_broken_reference_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"none\.json cannot be read: No such file"):
        Reference.read(tmp_path / "none.json")
    (tmp_path / "x.json").write_text(json.dumps({"source": "s", "note": "", "rows": [{}]}))
    with pytest.raises(ArtefactError, match=r"x\.json is not a file of published .*rows\.0\.model"):
        Reference.read(tmp_path / "x.json")


def test_files_of_one_data_set_are_put_together(study_results: Results) -> None:
    changed = study_results.rows[0].model_copy(update={"value": 0.5, "low": None, "high": None})
    later = Results(meta=study_results.meta, rows=[changed])
    figures = StudyFigures.of([study_results, later])
    assert figures.rows[0].value == 0.5
    assert len(figures.rows) == len(study_results.rows)
    assert len(figures.metas) == 2
    other = Results(
        meta=study_results.meta, rows=[changed.model_copy(update={"dataset": "elsewhere"})]
    )
    with pytest.raises(InputError, match=r"^a report is of one data set, got toy, elsewhere; pass"):
        StudyFigures.of([study_results, other])
    with pytest.raises(InputError, match=r"^a report is of one data set, got no rows"):
        StudyFigures.of([])


def test_the_table_has_ours_theirs_and_the_verdict(study_figures: StudyFigures) -> None:
    lines = study_markdown(study_figures).splitlines()
    assert lines[0].startswith("| model | change | HR@10, full ranking | NDCG@10, full ranking |")
    assert lines[4] == (
        "| v4 | title text <b> | 0.0600 | 0.0300 | 0.5400 (0.6355) | 0.2700 "
        "| +0.0100 [+0.0080, +0.0120] | helps |"
    )
    assert lines[5].endswith("| -0.0010 [-0.0030, +0.0010] † | no difference shown |")
    assert lines[6] == "| v7 | image embeddings | no images in this data set |  |  |  |  |  |"
    assert len({line.count("|") for line in lines}) == 1


def test_a_difference_no_larger_than_two_seed_errors_is_marked(study_figures: StudyFigures) -> None:
    v4, v8 = study_figures.compared()
    assert (within_seeds(v4), within_seeds(v8)) == (False, True)
    assert not within_seeds(v8.model_copy(update={"seed_error": None}))


def test_sentences_are_made_from_the_figures(study_figures: StudyFigures) -> None:
    assert agreement_in_words(study_figures) == (
        "The two order 6 of 6 pairs of models alike. v4 is best under both."
    )
    assert extremes_in_words(study_figures, "new-items", "Of these") == (
        "Of these v4 is best, with NDCG@10 0.0090 [0.0081, 0.0099], 3.0 times popularity, "
        "over 500 queries."
    )
    assert newcomers_in_words(study_figures) == (
        "Of the quality for known users, new ones get: popularity 75%, v1 75%, v4 75%, v8 75%."
    )
