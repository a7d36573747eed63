"""`twotower report`: HTML page of results files."""

from pathlib import Path
from typing import Annotated

import typer

from twotower.cli.options import JsonFile, notes, write_json


def report(
    results: Annotated[list[Path], typer.Argument(help="Results files of one data set.")],
    out: Annotated[Path, typer.Option("--out", help="The HTML page to write.")],
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Published figures to compare with.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Also write the main chart as SVG.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Write one self-contained page with the tables and charts of a study.

    Example: `twotower report runs/study/results.json --out runs/study/report.html`
    """
    from twotower.reporting.page import write_page
    from twotower.reporting.picture import write_picture
    from twotower.reporting.study_results import StudyFigures

    figures = StudyFigures.read(results, reference=reference)
    write_page(out, figures)
    notes().print(f"report written to {out}", highlight=False, soft_wrap=True)
    if picture is not None:
        write_picture(picture, figures)
        notes().print(f"picture written to {picture}", highlight=False, soft_wrap=True)
    write_json(json_file, {"report": str(out), "picture": picture and str(picture)})
