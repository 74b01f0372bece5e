"""`anachron pretrain`: a model of the almanac world, and whether it knows that world."""

from typing import Annotated

import typer

from analyses.commands.options import OutFolder, Seed


def pretrain(
    out: OutFolder,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", min=1)] = None,
    layers: Annotated[int | None, typer.Option(help="Blocks.", min=1)] = None,
    d_model: Annotated[int | None, typer.Option(help="Width of the residual stream.")] = None,
    d_mlp: Annotated[int | None, typer.Option(help="Width of an MLP.")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads.", min=1)] = None,
    vocabulary: Annotated[int | None, typer.Option(help="Entries of the tokenizer.", min=300)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    precision: Annotated[str | None, typer.Option(help="bfloat16 or float32, of matrix products.")] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 200,
    gate_documents: Annotated[int, typer.Option(help="Fresh documents the gates are measured on.", min=1)] = 1000,
    seed: Seed = 0,
) -> None:
    """Pretrain an almanac and measure its gates.

    A run that was stopped goes on from its last checkpoint. Options left out are those of the shipped almanac.
    """
    from analyses.commands.options import given
    from analyses.processor import bfloat16_warning
    from analyses.progress import counting
    from analyses.tables import print_table
    from training.card import write_card
    from training.pretrain import Pretraining
    from training.pretrain import pretrain as train
    from training.world.world import load_world

    sizes = given(steps=steps, layers=layers, d_model=d_model, d_mlp=d_mlp, heads=heads, vocabulary=vocabulary)
    sizes |= given(learning_rate=learning_rate, precision=precision)
    config = Pretraining(seed=seed, **sizes)
    if warning := bfloat16_warning(config.precision, "cpu"):
        typer.secho(warning, err=True, fg="yellow")
    world = load_world()
    with counting("pretraining", config.steps) as count:
        train(
            world,
            config,
            out,
            checkpoint_every=checkpoint_every,
            progress=lambda step, loss, tokens: count(step + 1, f"loss {loss:.3f} nats a token, {tokens:,} tokens"),
        )
    typer.echo("measuring the gates", err=True)
    gates = write_card(out, world, documents=gate_documents)
    print_table(
        "gates",
        ("gate", "figure", "bound", "passed"),
        [
            (g.name, g.figure, f"{'at most' if g.upper else 'at least'} {g.bound}", "yes" if g.passed else "no")
            for g in gates
        ],
    )
    failed = sum(not g.passed for g in gates)
    if failed:
        typer.secho(
            f"{failed} of {len(gates)} gates failed: what a fine-tune of this model shows says little",
            fg="red",
            err=True,
        )
    typer.echo(f"model: {out}")
