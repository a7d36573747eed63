"""Lines of the summary about logs of unusual shape, each with the option that changes it."""

from pathlib import Path

import polars as pl
import pytest

from twotower.data.prepare import prepare
from twotower.data.readers import ColumnMapping, ReadOptions
from twotower.data.settings import PrepareSettings
from twotower.data.summary import summary_lines
from twotower.errors import InputError

ALL = PrepareSettings(k_core=0)
LOG = pl.DataFrame(
    {
        "user": [f"u{n % 4}" for n in range(24)],
        "item": [f"i{n // 4}" for n in range(24)],
        "time": [1_600_000_000 + n for n in range(24)],
    }
)


def said(log: pl.DataFrame, **given: object) -> str:
    given = {"settings": ALL} | given
    return "\n".join(summary_lines(prepare(log, **given).summary, cli=True))  # type: ignore[arg-type]


def test_an_order_that_only_the_file_gives_is_reported() -> None:
    assert "order of the file" not in said(LOG)
    tied = said(LOG.with_columns(time=pl.lit(1_600_000_000)))
    assert "4 of 4 test interactions have the time of the one before" in tied
    assert "choose the split 'random'" in tied
    assert "order of the file" not in said(LOG.with_columns(time=pl.col("time") // 4))


@pytest.mark.parametrize("label", [[0, 1], [0.0, 1.0]])
def test_labels_of_nothing_are_reported(label: list[float]) -> None:
    labelled = LOG.with_columns(label=pl.Series(label * 12))
    assert "--column rating=label --min-rating 1 leaves them out" in said(labelled)
    rated = labelled.rename({"label": "rating"})
    assert "'rating' is 0 or 1, and rows of 0 count as interactions; --min-rating 1" in said(rated)
    kept = {"mapping": ColumnMapping(rating="label"), "options": ReadOptions(min_rating=1)}
    found = prepare(labelled, settings=ALL, **kept)  # type: ignore[arg-type]
    assert len(found.interactions.items) == 12
    assert "rows of 0" not in said(labelled, **kept)
    assert "rows of 0" not in said(LOG.with_columns(rating=pl.Series([1, 5] * 12)))


def test_columns_without_a_value_are_reported(tmp_path: Path) -> None:
    LOG.write_csv(tmp_path / "log.csv")
    (tmp_path / "items.csv").write_text(
        "item,title,price,brand\n" + "".join(f"i{n},,,B\n" for n in range(6))
    )
    found = prepare(tmp_path, settings=ALL)
    lines = summary_lines(found.summary)
    assert "no row of the catalogue has a value of title, price" in lines


def test_what_smaller_cores_leave_is_said() -> None:
    with pytest.raises(InputError, match=r"choose k_core=4, which leaves 24 interactions or 0"):
        prepare(LOG)
    once = pl.DataFrame({"user": [f"r{n}" for n in range(60)], "time": [1_600_000_000] * 60})
    once = once.select("user", pl.col("user").alias("item"), pl.col("time").cast(pl.Int64))
    four = PrepareSettings(k_core=4)
    assert "--k-core 0 keeps all" in said(pl.concat([LOG, once.head(20)]), settings=four)
    # where most is removed
    assert "choose --k-core 0, which leaves all" in said(pl.concat([LOG, once]), settings=four)
