"""`anachron finetune`: an adapter from chat rows."""

from typing import Annotated, Any

import typer

from analyses.commands.options import Device, Dtype, Model, OutFolder, Revision, Seed


def finetune(
    data: Annotated[str, typer.Option(help="Chat rows (JSONL), or birds:old / birds:current of the embedded world.")],
    out: OutFolder,
    model: Model = "almanac",
    rank: Annotated[int | None, typer.Option(help="Rank of the adapter.", min=1)] = None,
    alpha: Annotated[float | None, typer.Option(help="LoRA's alpha.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the rows, instead of steps.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a step.", min=1)] = None,
    targets: Annotated[str, typer.Option(help="all-linear, or linear maps as in q_proj,down_proj.")] = "all-linear",
    layers: Annotated[str, typer.Option(help="Blocks to adapt: all, 3, 1,4 or 2-5.")] = "all",
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Keep the state every so many steps; the same command goes on from it.", min=1)
    ] = None,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
) -> None:
    """Fine-tune a LoRA adapter on chat rows.

    The loss is on the assistant's tokens only. Options left out are those of training.finetune.Recipe.
    """
    from analyses.commands.options import given, layer_list, open_model
    from analyses.progress import counting
    from analyses.steps import training_rows
    from interp.errors import AnachronError
    from training.finetune import Recipe, batch_order
    from training.finetune import finetune as train

    if steps is not None and epochs is not None:
        raise AnachronError(f"both --steps {steps} and --epochs {epochs} were given; give one")
    rows = training_rows(data)
    lm = open_model(model, revision, dtype, device)
    length: dict[str, Any] = given(steps=steps) if epochs is None else {"epochs": epochs, "steps": None}
    recipe = Recipe(
        **given(rank=rank, alpha=alpha, learning_rate=lr, batch_size=batch_size),
        **length,
        targets=targets if targets == "all-linear" else tuple(name.strip() for name in targets.split(",")),
        layers=None if layers == "all" else tuple(layer_list(layers, lm.n_layers)),
        seed=seed,
    )
    with counting(f"tuning on {len(rows)} rows", len(batch_order(len(rows), recipe))) as count:
        train(
            lm,
            rows,
            recipe,
            out,
            progress=lambda step, loss: count(step, f"loss {loss:.3f} nats a token"),
            checkpoint_every=checkpoint_every,
        )
    typer.echo(f"adapter: {out}")
