"""`anachron report`: the page of a finished run."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    result: Annotated[Path, typer.Argument(help="result.json of a run.")],
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write; by default report.html beside the result.")
    ] = None,
) -> None:
    """Write the report of a run again, one self-contained HTML file."""
    from analyses.measurements import read_result
    from analyses.report import write_report

    path = result.with_name("report.html") if out is None else out
    write_report(read_result(result), path)
    typer.echo(f"report: {path}")
