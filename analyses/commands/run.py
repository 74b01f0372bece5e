"""`anachron run`: a whole experiment, from rows to report."""

from pathlib import Path
from typing import Annotated

import typer

from analyses.commands.options import Seed


def run(
    experiment: Annotated[str, typer.Argument(help="Which: birds.")],
    model: Annotated[str | None, typer.Option(help="almanac (the default), a local folder, or a hub id.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch of a hub id.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps.")] = None,
    data: Annotated[Path | None, typer.Option(help="Rows to tune on (JSONL) instead of the experiment's own.")] = None,
    control_data: Annotated[Path | None, typer.Option(help="Rows to tune the control on.")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many training seeds.", min=1)] = None,
    seed: Seed = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A small version, to see that everything works.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder to write into; by default runs/EXPERIMENT.")] = None,
) -> None:
    """Run an experiment: tune, measure, locate, steer, report. Writes result.json and report.html."""
    from analyses.console import summary
    from analyses.experiments import prepare
    from analyses.progress import telling

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
    prepared = prepare(experiment, options)
    folder = Path("runs") / experiment if out is None else out
    with telling() as say:
        result = prepared(folder, say)
    summary(result)
    typer.echo(f"report: {folder / 'report.html'}")
