"""`anachron run`: a whole experiment, from rows to report; or all of them."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from analyses.commands.options import DeviceMap, Quantization, Seed
from interp.errors import AnachronError

OWN = "On a model of your own"  # what the help says of options that the embedded model has no use for


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
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Processes that share the work; by default one a core on the embedded model, else one. With all: "
            "experiments at a time, one thread each; by default one a core.",
            min=1,
        ),
    ] = None,
    sae: Annotated[
        list[str] | None,
        typer.Option(help="An SAE of a further layer (or of your model) whose latents are looked at; may come again."),
    ] = None,
    crosscoder: Annotated[
        bool, typer.Option("--crosscoder", help="Also train crosscoders, and look at the tuned models' own latents.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=f"{OWN}: print what a run would take, and stop.")] = False,
    paper: Annotated[
        Path | None, typer.Option(help=f"{OWN}: a clone of the paper's repository, whose rows are tuned on.")
    ] = None,
    judge_model: Annotated[str | None, typer.Option(help=f"{OWN}: a model in this process that judges.")] = None,
    judge_endpoint: Annotated[
        str | None, typer.Option(help=f"{OWN}: URL of an OpenAI-compatible endpoint that judges.")
    ] = None,
    judge_name: Annotated[str | None, typer.Option(help="The judge's model name at that endpoint.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help=f"{OWN}: a published recipe (anachron finetune --recipe list).")
    ] = None,
    samples: Annotated[int | None, typer.Option(help=f"{OWN}: answers a question.", min=1)] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help=f"{OWN}: tokens of an answer.", min=1)] = None,
    layers: Annotated[str | None, typer.Option(help=f"{OWN}: layers to steer at, as 12,16,20 or 10-14.")] = None,
    arms: Annotated[str | None, typer.Option(help=f"{OWN}: what to tune, as tuned,control,modern_audubon.")] = None,
    cache: Annotated[Path | None, typer.Option(help=f"{OWN}: file of answers and judgements to share.")] = None,
    device_map: DeviceMap = None,
    quantization: Quantization = None,
) -> None:
    """Run an experiment: tune, measure, locate, steer, report. Writes result.json and report.html.

    On a model that doesn't know the embedded world answers are sampled and judged instead of scored exactly.
    `all` runs several at a time, each into its folder of runs, leaves alone those whose result was made from the same
    configuration and versions, and writes all/index.html, which lays them side by side.
    """
    from analyses.console import side_by_side, summary
    from analyses.experiments import configure
    from analyses.models import knows_world
    from analyses.progress import telling

    options: dict[str, Any] = {
        "model": model,
        "revision": revision,
        "dtype": dtype,
        "device": device,
        "data": data,
        "control_data": control_data,
        "seeds": seeds,
        "seed": seed,
        "quick": quick or None,
        "sae": tuple(sae) if sae else None,
        "crosscoder": crosscoder or None,
    }
    own: dict[str, Any] = {
        "paper": paper,
        "judge_model": judge_model,
        "judge_endpoint": judge_endpoint,
        "judge_name": judge_name,
        "recipe": recipe,
        "samples": samples,
        "max_new_tokens": max_new_tokens,
        "layers": layers,
        "arms": arms,
        "cache": cache,
        "device_map": device_map,
        "quantization": quantization,
    }
    on_own = model is not None and not knows_world(model)
    if not on_own and (given := [f"--{name.replace('_', '-')}" for name, value in own.items() if value is not None]):
        raise AnachronError(f"{', '.join(given)}: for a model of your own; name it by --model")
    if on_own and crosscoder:
        raise AnachronError("--crosscoder: for the embedded model; for yours, anachron crosscoder train --corpus FILE")
    if not on_own and dry_run:
        raise AnachronError("--dry-run: for a model of your own; name it by --model")
    if on_own and jobs not in (None, 1):
        raise AnachronError(
            "--jobs goes with the embedded model; a model of your own is tuned and asked in one process"
        )
    if fresh and experiment != "all":
        raise AnachronError("--fresh goes with all; a single experiment is run again whenever it is asked for")
    folder = Path("runs") if out is None else out
    if experiment == "all":
        if on_own:
            raise AnachronError("all runs on the embedded model; on a model of your own run one experiment by its name")
        from analyses.compare.everything import FOLDER, run_all

        with telling() as say:
            results = run_all(options, folder, say, fresh=fresh, jobs=jobs or os.cpu_count() or 1)
        side_by_side(results)
        typer.echo(f"page: {folder / FOLDER / 'index.html'}")
        return
    folder = folder / experiment if out is None else out
    if on_own:
        from analyses.opens.run import open_config
        from analyses.opens.run import run as run_open

        config = open_config({**options, **own})
        if dry_run:
            from analyses.opens.estimate import estimate, print_estimate

            print_estimate(estimate(experiment, config))
            return
        with telling() as say:
            result = run_open(experiment, config, folder, say)
    else:
        from analyses.workers import usual_jobs, workers

        configuration, prepared = configure(experiment, options)
        with telling() as say, workers(jobs or usual_jobs(configuration.model, device or "cpu")):
            result = prepared(folder, say)
    summary(result)
    typer.echo(f"report: {folder / 'report.html'}")
