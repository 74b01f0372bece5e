"""Tables on stdout: rich on a terminal, aligned plain text elsewhere, so that a pipe gets whole lines."""

import sys
from collections.abc import Sequence

from interp.stats import Estimate

Cell = str | int | float | None


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print rows under a title; the first column is left-aligned, None is a dash."""
    texts = [[_text(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(title=title, title_justify="left", box=box.SIMPLE)
        for i, column in enumerate(columns):
            table.add_column(column, justify="left" if i == 0 else "right")
        for row in texts:
            table.add_row(*(cell.replace("[", r"\[") for cell in row))
        Console().print(table)
        return
    widths = [max(len(row[i]) for row in [list(columns), *texts]) for i in range(len(columns))]
    print(title)
    for row in [list(columns), *texts]:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  " + "  ".join(cells).rstrip())
    print(flush=True)


def interval(estimate: Estimate) -> str:
    """An estimate with its interval, as .412 [.380 .447]; without one where there is a single value."""
    if estimate.low == estimate.high:
        return f"{estimate.estimate:.3f}"
    return f"{estimate.estimate:.3f} [{estimate.low:.3f} {estimate.high:.3f}]"


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
