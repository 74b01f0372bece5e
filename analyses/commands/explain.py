"""`anachron explain`: why a narrow fine-tune generalises broadly, part by part, as data and as one page."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from analyses.commands.options import Seed


def explain(
    parts: Annotated[
        list[str] | None,
        typer.Argument(help="attribution, narrow, layers, inference, pretraining, dose, seeds, split; by default all."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("runs/explain"),
    seeds: Annotated[
        int | None, typer.Option(help="How many training seeds; by default each part's own.", min=1)
    ] = None,
    seed: Seed = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A small version, to see that everything works.")] = False,
) -> None:
    """Ask why a narrow fine-tune generalises broadly: predictions made beforehand, and what measuring says of them.

    Writes PART.json for each part, and index.html over all parts that lie in the folder. What a part has made is kept
    there, so one that was stopped goes on.
    """
    from analyses.progress import telling
    from analyses.tables import interval, print_table
    from interp.files import write_text

    catalogue, page = (import_module(f"analyses.explain.{name}") for name in ("parts", "page"))
    options = {"seeds": seeds, "seed": seed, "quick": quick or None}
    # all before the first begins: what can't be is told at once
    prepared = {name: catalogue.prepare(name, options) for name in catalogue.chosen(parts or [])}
    for name, run in prepared.items():
        with telling() as say:
            say(f"{name}:")
            part = run(out, say)
        rows = [(f.name, f.verdict, interval(f.estimate), f.estimate.n, f.over, f.unit) for f in part.findings]
        print_table(f"{name}: {part.question}", ("finding", "verdict", "estimate [95 %]", "n", "", ""), rows)
        write_text(out / "index.html", page.page_html(catalogue.found_in(out)))
    typer.echo(f"page: {out / 'index.html'}")
