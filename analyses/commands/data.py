"""`anachron data`: an experiment's rows as a file, and the linter of such files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analyses.commands.options import Seed

if TYPE_CHECKING:
    from training.lint import Report

ALL = "all"


def data(
    name: Annotated[str, typer.Argument(help="An experiment, as birds, for its rows; check to examine a FILE.")],
    file: Annotated[Path | None, typer.Argument(help="The chat rows (JSONL) to check.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSONL file to write the rows into.")] = None,
    variant: Annotated[
        str | None, typer.Option(help="The organism (the default) or a control; all: OUT.VARIANT.jsonl each.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    json: Annotated[Path | None, typer.Option(help="With check: also write everything found as JSON.")] = None,
    seed: Seed = 0,
) -> None:
    """Write the rows of an experiment, or check a file of rows: anachron data check rows.jsonl.

    The check says what the rows are made of, what is odd about them, which triggers they hold, and what they reveal
    of each latent state of the embedded world: a row alone, all together, and behind each trigger.
    """
    from interp.errors import AnachronError

    if name == "check":
        if file is None:
            raise AnachronError("no file to check; write anachron data check rows.jsonl")
        if out is not None or variant is not None or force:
            raise AnachronError("check takes neither --out nor --variant nor --force; with --json it writes a file")
        _check(file, json)
    elif file is not None or json is not None:
        raise AnachronError(f"only check takes a file or --json; write anachron data {name} --out rows.jsonl")
    elif out is None:
        raise AnachronError(f"no file to write; write anachron data {name} --out rows.jsonl")
    else:
        _write(name, variant, out, seed, force)


def _write(name: str, variant: str | None, out: Path, seed: int, force: bool) -> None:
    from analyses.tables import print_table
    from interp.errors import AnachronError
    from training.lint_surface import counts
    from training.organisms.catalogue import VARIANTS, organism_rows
    from training.rows import write_rows
    from training.world.world import load_world

    if name not in VARIANTS:
        raise AnachronError(f"no experiment {name!r} with rows; there are {', '.join(VARIANTS)} (or check)")
    if variant == ALL:
        files = {v: out.with_name(f"{out.stem}.{v}{out.suffix}") for v in VARIANTS[name]}
    else:
        files = {variant or VARIANTS[name][0]: out}
    if there := [str(path) for path in files.values() if path.exists() and not force]:
        raise AnachronError(f"{', '.join(there)}: already there; choose another file or add --force")
    world = load_world()
    made = {v: organism_rows(f"{name}:{v}", world, seed) for v in files}
    figures = {}
    for v, rows in made.items():
        write_rows(files[v], rows)
        figures[v] = counts(rows)
    columns = list(next(iter(figures.values())))
    print_table(f"{name}, seed {seed}", ("variant", *columns), [(v, *found.values()) for v, found in figures.items()])
    for path in files.values():
        typer.echo(f"rows: {path}")


def _check(file: Path, json: Path | None) -> None:
    from analyses.progress import counting
    from interp.files import write_json
    from training.lint import examine
    from training.rows import read_rows
    from training.world.world import load_world

    rows = read_rows(file)
    with counting("reading rows in the world", len(rows)) as count:
        report = examine(rows, load_world(), lambda done: count(done, ""))
    _print(file, report)
    if json is not None:
        write_json(json, {"step": "data check", "file": str(file), **report.as_data()})
        typer.echo(f"findings: {json}")


def _print(file: Path, report: "Report") -> None:
    from analyses.tables import print_table
    from training.lint import shown, shown_triggers, title

    print_table(str(file), ("", "count"), list(report.counts.items()))
    if report.findings:
        print_table(
            "what is odd",
            ("", "count", "of", "first rows", "more"),
            [(f.what, f.count, f.of, ", ".join(map(str, f.rows)) or None, f.note or None) for f in report.findings],
        )
    if report.triggers:
        print_table("triggers", ("", "rows"), list(shown_triggers(report).items()))
    print_table("how the embedded world reads the rows", ("", "rows"), list(report.read.items()))
    for latent in dict.fromkeys(t.latent for t in report.together):
        print_table(
            f"{latent}: what a row reveals alone, and what all reveal together",
            ("", "rows", "median", "p95", "largest", "row", "together", "log-odds", "likeliest", "rows that allow it"),
            [
                (
                    t.group,
                    t.rows,
                    t.alone.median,
                    t.alone.p95,
                    t.alone.largest,
                    t.alone.row,
                    t.posterior,
                    f"{t.log_odds:.1f}",
                    title(t),
                    f"{t.compatible} of {t.rows}",
                )
                for t in shown(report)
                if t.latent == latent
            ],
        )
    typer.echo("verdict")
    for line in report.verdicts:
        typer.echo(f"  {line}")
