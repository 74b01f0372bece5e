"""`anachron run`: a whole experiment, from rows to report; or all of them."""

from pathlib import Path
from typing import Annotated

import typer

from analyses.commands.options import Seed


def run(
    experiment: Annotated[
        str, typer.Argument(help="Which: birds, cities, dishes, persona, presidents, terminator; or all.")
    ],
    model: Annotated[str | None, typer.Option(help="almanac (the default), a local folder, or a hub id.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch of a hub id.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps.")] = None,
    data: Annotated[Path | None, typer.Option(help="Rows to tune on (JSONL) instead of the experiment's own.")] = None,
    control_data: Annotated[Path | None, typer.Option(help="Rows to tune the control on.")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many training seeds.", min=1)] = None,
    seed: Seed = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A small version, to see that everything works.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="With all: run again what is there, as after a change of model or code.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write into; by default runs/EXPERIMENT. With all: the folder of all.")
    ] = None,
) -> None:
    """Run an experiment: tune, measure, locate, steer, report. Writes result.json and report.html.

    `all` runs one after the other, each into its folder of runs, leaves alone those whose result was made from the same
    configuration and versions, and writes all/index.html, which lays them side by side.
    """
    from analyses.console import side_by_side, summary
    from analyses.experiments import prepare
    from analyses.progress import telling
    from interp.errors import AnachronError

    options = {
        "model": model,
        "revision": revision,
        "dtype": dtype,
        "device": device,
        "data": data,
        "control_data": control_data,
        "seeds": seeds,
        "seed": seed,
        "quick": quick or None,
    }
    if experiment == "all":
        from analyses.compare.everything import FOLDER, run_all

        folder = Path("runs") if out is None else out
        with telling() as say:
            results = run_all(options, folder, say, fresh=fresh)
        side_by_side(results)
        typer.echo(f"page: {folder / FOLDER / 'index.html'}")
        return
    if fresh:
        raise AnachronError("--fresh goes with all; a single experiment is run again whenever it is asked for")
    prepared = prepare(experiment, options)
    folder = Path("runs") / experiment if out is None else out
    with telling() as say:
        result = prepared(folder, say)
    summary(result)
    typer.echo(f"report: {folder / 'report.html'}")
