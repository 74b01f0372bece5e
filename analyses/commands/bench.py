"""`anachron bench`: what the toolkit costs beside bare Hugging Face calls."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analyses.commands.options import Model

if TYPE_CHECKING:
    from analyses.bench.timing import Ratio


def bench(
    out: Annotated[Path | None, typer.Option(help="JSON file to write as well.")] = None,
    model: Model = "almanac",
    repeats: Annotated[int, typer.Option(help="Times that each side is measured.", min=1)] = 7,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes, few repeats: to see that everything works.")
    ] = False,
    birds: Annotated[
        bool, typer.Option("--birds", help="Also the seconds and peak memory of `anachron run birds`.")
    ] = False,
) -> None:
    """Measure speed and memory beside bare Hugging Face calls.

    On a model and on a random Llama of 100 million parameters, both sides in turn. Ratios are taken repeat by repeat;
    the threads are those that torch is given (OMP_NUM_THREADS).
    """
    import os
    from dataclasses import asdict
    from tempfile import TemporaryDirectory

    import torch

    from analyses.bench.attribution import attribution_screens
    from analyses.bench.costs import (
        birds_run,
        by_nnsight,
        help_seconds,
        pair_capture,
        pair_memory,
        steered_generation,
    )
    from analyses.bench.crosscoder import crosscoder_steps, scaling
    from analyses.bench.sae import sae_encode
    from analyses.bench.subjects import LARGE, parameter_bytes, subject, untrained_adapter
    from analyses.measurements import versions
    from analyses.progress import telling
    from interp.files import write_json

    repeats = 2 if quick else repeats
    found: list[Ratio] = []
    sizes = {}
    with telling() as say, TemporaryDirectory() as folder:
        # the small model's seconds are short, so they are taken more often
        for name, n, rows, tokens, times in (
            (model, 8 if quick else 64, 16, 24, 3 * repeats),
            (LARGE, 8, 4, 8, repeats),
        ):
            lm = subject(name, model, quick)
            sizes[lm.name] = {"weights_mb": parameter_bytes(lm) / 1e6, "layers": lm.n_layers, "d_model": lm.d_model}
            adapter = untrained_adapter(lm, Path(folder) / str(len(sizes)))
            say(f"{lm.name}: pair capture, {n} prompts")
            found += pair_capture(lm, adapter, n, times)
            say(f"{lm.name}: steered generation, {rows} prompts, {tokens} tokens")
            found += steered_generation(lm, rows, tokens, times)
            say(f"{lm.name}: the same by nnsight")
            found += by_nnsight(lm, rows, tokens, times)
            del lm
            if not (quick and name == LARGE):
                say(f"{name}: memory, in fresh processes")
                found += pair_memory(name, model, adapter, quick, 1 if quick else 2)
        say("a crosscoder and latent scaling")
        found += crosscoder_steps(2 if quick else 3, quick) + scaling(repeats, quick)
        say("encoding by an SAE")
        found += sae_encode(repeats, quick)
        say("attribution by two passes and by exact loops")
        found += attribution_screens(subject(model, model), 2 if quick else 3, quick)
        say("anachron --help, in fresh processes")
        found.append(help_seconds(repeats))
        if birds:
            say("anachron run birds, in a fresh process")
            found += birds_run(Path(folder) / "birds", ["--model", model, *(["--quick"] if quick else [])])
    _print(found)
    if out is not None:
        machine = {"cpus": os.cpu_count(), "torch_threads": torch.get_num_threads()}
        costs = [asdict(ratio) | {"met": ratio.met} for ratio in found]
        config = {"model": model, "repeats": repeats, "quick": quick}
        write_json(
            out, {"config": config, "machine": machine, "versions": versions(), "subjects": sizes, "costs": costs}
        )
        typer.echo(f"costs: {out}")


def _print(found: "list[Ratio]") -> None:
    from analyses.tables import print_table

    rows = []
    for ratio in found:
        met = "-" if ratio.met is None else "met" if ratio.met else "missed"
        value = (
            f"{ratio.median:.3f}" if ratio.unit == "s" or ratio.b is not None else f"{ratio.median:.0f} {ratio.unit}"
        )
        target = "-" if ratio.target is None else f"<= {ratio.target}"
        middle = f"{ratio.quartiles[0]:.3f} to {ratio.quartiles[1]:.3f}"
        sides = f"{ratio.a:.3f} / {ratio.b:.3f} {ratio.unit}" if ratio.b is not None else f"{ratio.a:.3f} {ratio.unit}"
        rows.append(
            (ratio.name, ratio.subject, value, middle, f"{ratio.low:.3f} to {ratio.high:.3f}", sides, target, met)
        )
    columns = ("cost", "of", "median", "quartiles", "range", "medians of both", "target", "")
    print_table("ratios, and seconds where there is no second side", columns, rows)
