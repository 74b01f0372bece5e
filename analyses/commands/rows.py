"""`anachron rows`: which training rows push along a direction, checked by retraining without them."""

from pathlib import Path
from typing import Annotated

import typer

from analyses.commands.options import Device, Dtype, Group, Model, OutFolder, Questions, Revision, Seed


def rows(
    data: Annotated[str, typer.Option(help="Chat rows (JSONL), or an organism of the embedded world, as birds:old.")],
    out: OutFolder,
    model: Model = "almanac",
    direction: Annotated[
        Path | None,
        typer.Option(help="Direction (.safetensors, as diff writes); by default tuned minus control of all rows."),
    ] = None,
    control: Annotated[
        str | None, typer.Option(help="Without --direction: the control's rows, as --data; without, minus base.")
    ] = None,
    layer: Annotated[int | None, typer.Option(help="Without --direction: its block; by default the middle.")] = None,
    positions: Annotated[
        str, typer.Option(help="Tokens whose gradients count: all, prompt, last_prompt, answer, ...")
    ] = "last_prompt",
    k: Annotated[int | None, typer.Option("--k", help="Rows left out; by default a third.", min=1)] = None,
    draws: Annotated[int, typer.Option(help="How many times as many random rows are left out.", min=1)] = 4,
    seeds: Annotated[int, typer.Option(help="Fine-tuning seeds of each.", min=1)] = 3,
    rank: Annotated[int | None, typer.Option(help="Rank of the adapter.", min=1)] = None,
    alpha: Annotated[float | None, typer.Option(help="LoRA's alpha.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Of the learning rate: constant or linear.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, the same without rows.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a step.", min=1)] = None,
    layers: Annotated[str | None, typer.Option(help="Blocks to adapt: all (default), 3, 1,4 or 2-5.")] = None,
    questions: Questions = "world",
    per_topic: Annotated[int, typer.Option(help="Questions asked of a topic, the first ones.", min=1)] = 1,
    group: Group = None,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
) -> None:
    """Find which training rows push along a direction, and retrain without them.

    A row's score is the gradient of its loss in the base along the direction. Without the top rows, without the bottom
    ones and without as many random ones adapters are trained anew, and the broad and the narrow share measured.
    Adapters are kept, so an interrupted run goes on. Writes rows.json and rows.html.
    """
    from dataclasses import asdict

    from analyses.attribution.rows import ALL, BOTTOM, TOP, first_of_topics, found_direction, left_out, retrain, summary
    from analyses.attribution.rows_page import verdict, write_page
    from analyses.commands.options import answers_in, given, layer_list, open_model
    from analyses.measurements import versions
    from analyses.progress import telling
    from analyses.steps import ask, training_rows
    from interp.directions import Direction
    from interp.errors import AnachronError
    from interp.files import write_json
    from interp.hooks import HookPoint
    from interp.positions import by_name
    from training.attribution import row_pushes
    from training.finetune import Recipe

    if direction is not None and (layer is not None or control is not None):
        raise AnachronError(f"--direction {direction} with --layer or --control, which are for finding one; give one")
    found_rows, selected = training_rows(data), by_name(positions)
    located = None if direction is None else Direction.load(direction)
    extra = answers_in(data)
    test = first_of_topics(ask(questions, "test", group=group, extra=extra), per_topic)
    validation = ask(questions, "validation", group=test.group, extra=extra)
    lm = open_model(model, revision, dtype, device)
    chosen = given(rank=rank, alpha=alpha, learning_rate=lr, schedule=schedule, steps=steps, batch_size=batch_size)
    if layers is not None:
        chosen["layers"] = None if layers == "all" else tuple(layer_list(layers, lm.n_layers))
    [at] = [lm.n_layers // 2] if layer is None else layer_list(str(layer), lm.n_layers)
    recipe, seed_list, folder = Recipe(**chosen), range(seed, seed + seeds), out / "adapters"
    many = len(found_rows) // 3 if k is None else k
    with telling() as say:
        if located is None:
            say(f"direction: tuned on all {len(found_rows)} rows, {seeds} seeds, minus {control or 'base'}")
            against = [] if control is None else training_rows(control)
            located = found_direction(
                lm, found_rows, against, recipe, seed_list, validation.broad, HookPoint(at), folder, say
            )
        say(f"scores of {len(found_rows)} rows along {located.method} at {located.point}")
        scores = row_pushes(lm, found_rows, [located], positions=selected)[:, 0]
        without = left_out(scores, many, draws, seed)
        say(f"{len(without)} sets of rows, {seeds} seeds each: trained, then asked {len(test.broad)} questions")
        measured = retrain(lm, found_rows, without, recipe, seed_list, test, located, folder, say)
    found = {
        "k": many,
        "direction": {"method": located.method, "point": str(located.point), "norm": located.norm},
        "rows": [
            {
                "row": i,
                "text": " → ".join(str(message["content"]) for message in row.messages),
                "score": float(scores[i]),
                "top": i in without[TOP],
                "bottom": i in without[BOTTOM],
            }
            for i, row in enumerate(found_rows)
        ],
        "without": {arm: list(gone) for arm, gone in without.items() if arm != ALL},
        "measured": [asdict(one) for one in measured],
        "summary": summary(measured, seed),
    }
    config = {
        "data": data,
        "direction": None if direction is None else str(direction),
        "control": control,
        "positions": selected.name,
        "k": many,
        "draws": draws,
        "seeds": list(seed_list),
        "recipe": recipe.as_json(),
        "questions": questions,
        "per_topic": per_topic,
        "group": test.group,
        "seed": seed,
    }
    about = {"step": "rows", "model": lm.name, "revision": lm.revision, "config": config, "versions": versions()}
    write_json(out / "rows.json", about | found)
    write_page(about, found, out / "rows.html")
    typer.echo(verdict(found))
    typer.echo(f"page: {out / 'rows.html'}")
