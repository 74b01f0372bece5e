"""What a command says while it works, on stderr: a bar or a spinner on a terminal, elsewhere plain lines."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_SECONDS = 10.0  # between the plain lines of work that counts its steps

Say = Callable[[str], None]
Count = Callable[[int, str], None]


@contextmanager
def telling() -> Iterator[Say]:
    """`say(text)` for work of unknown length: a line with the seconds gone by, on a terminal above a spinner."""
    start = time.monotonic()

    def line(text: str) -> str:
        return f"{time.monotonic() - start:7.1f} s  {text}"

    if not sys.stderr.isatty():
        yield lambda text: _plain(line(text))
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    with console.status("working") as status:

        def say(text: str) -> None:
            console.print(line(text), markup=False)
            status.update(text.replace("[", r"\["))

        yield say


@contextmanager
def counting(what: str, total: int) -> Iterator[Count]:
    """`count(done, note)` for work of `total` steps: a bar on a terminal, else a line every EVERY_SECONDS."""
    if not sys.stderr.isatty():
        yield _lines(what, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(what, total=total, note="")
        yield lambda done, note: bars.update(task, completed=done, note=note)


def _lines(what: str, total: int) -> Count:
    said = time.monotonic()

    def count(done: int, note: str) -> None:
        nonlocal said
        if done >= total or time.monotonic() - said >= EVERY_SECONDS:
            said = time.monotonic()
            _plain(f"{what} {done}/{total}  {note}")

    return count


def _plain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
