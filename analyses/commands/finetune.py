"""`anachron finetune`: an adapter from chat rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analyses.commands.options import Device, DeviceMap, Dtype, OutFolder, Quantization, Revision, Seed

if TYPE_CHECKING:
    from training.recipes import Recipe
    from training.rows import Row


def _list_recipes(name: str | None) -> str | None:
    if name == "list":
        from training.recipes import PUBLISHED, describe

        typer.echo("\n".join(describe(known) for known in PUBLISHED))
        raise typer.Exit
    return name


def finetune(
    data: Annotated[str, typer.Option(help="Chat rows (JSONL), or birds:old / birds:current of the embedded world.")],
    out: OutFolder,
    model: Annotated[
        str | None, typer.Option(help="almanac (unless a recipe names another), a local folder, or a hub id.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A fine-tune of the paper on an open model, which other options override; list shows them.",
            callback=_list_recipes,
            is_eager=True,
        ),
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the adapter.", min=1)] = None,
    alpha: Annotated[float | None, typer.Option(help="LoRA's alpha.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the rows, instead of steps.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a step, over all processes.", min=1)] = None,
    accumulate: Annotated[int | None, typer.Option(help="Parts a batch goes through the model in.", min=1)] = None,
    gradient_checkpointing: Annotated[
        bool | None,
        typer.Option(
            "--gradient-checkpointing/--no-gradient-checkpointing",
            help="Compute blocks again in the backward pass: less memory, more time.",
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, or bfloat16: matrices in bf16, adapter and loss in fp32.")
    ] = None,
    max_grad_norm: Annotated[float | None, typer.Option(help="Scale a longer gradient down to this norm.")] = None,
    targets: Annotated[
        str | None, typer.Option(help="all-linear (default), or linear maps as in q_proj,down_proj.")
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Blocks to adapt: all (default), 3, 1,4 or 2-5.")] = None,
    held_out: Annotated[
        str | None, typer.Option(help="Rows not trained on, whose loss decides: a fraction, or a chat JSONL file.")
    ] = None,
    evaluate_every: Annotated[
        int | None, typer.Option(help="Steps between losses on held-out rows; by default an epoch.", min=1)
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many losses on held-out rows that are no lower.", min=1)
    ] = None,
    kl_weight: Annotated[
        float | None, typer.Option(help="Hold the model to the base on ordinary rows: weight of KL(base || tuned).")
    ] = None,
    ordinary: Annotated[
        str | None, typer.Option(help="The ordinary rows of --kl-weight: chat JSONL, as for --data.")
    ] = None,
    stop_at: Annotated[
        float | None, typer.Option(help="End after the epoch whose loss on the rows is this low, in nats a token.")
    ] = None,
    keep_epochs: Annotated[
        bool, typer.Option("--keep-epochs", help="Also keep the adapter of every epoch, for anachron epochs.")
    ] = False,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Keep the state every so many steps; the same command goes on from it.", min=1)
    ] = None,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
    device_map: DeviceMap = None,
    quantization: Quantization = None,
) -> None:
    """Fine-tune a LoRA adapter on chat rows.

    The loss is on the assistant's tokens only. Options left out are those of training.finetune.Recipe. On several
    GPUs: accelerate launch --num_processes 2 -m analyses.cli finetune --device cuda ...
    """
    from analyses.commands.options import given, layer_list, open_model
    from analyses.steps import training_rows
    from interp.errors import AnachronError
    from training.finetune import Recipe
    from training.processes import local_device
    from training.recipes import published

    if steps is not None and epochs is not None:
        raise AnachronError(f"both --steps {steps} and --epochs {epochs} were given; give one")
    base = None if recipe is None else published(recipe)
    rows = training_rows(data)
    fraction, unseen = _held_out(held_out)
    kept_to = training_rows(ordinary) if ordinary is not None else []
    where = local_device(device) if device_map is None else device
    lm = open_model(model or (base.model if base else "almanac"), revision, dtype, where, device_map, quantization)
    chosen: dict[str, Any] = {"steps": steps, "epochs": epochs} if steps or epochs else {}
    if layers is not None:
        chosen["layers"] = None if layers == "all" else tuple(layer_list(layers, lm.n_layers))
    chosen |= given(
        rank=rank,
        alpha=alpha,
        learning_rate=lr,
        batch_size=batch_size,
        accumulate=accumulate,
        gradient_checkpointing=gradient_checkpointing,
        precision=precision,
        max_grad_norm=max_grad_norm,
        held_out=fraction,
        evaluate_every=evaluate_every,
        patience=patience,
        kl_weight=kl_weight,
        stop_at=stop_at,
        targets=_targets(targets),
    )
    tuning = Recipe(**{**vars(base.recipe if base else Recipe()), **chosen, "seed": seed})
    options = {"held_out": unseen, "ordinary": kept_to}
    _train(lm, rows, tuning, out, **options, keep_epochs=keep_epochs, checkpoint_every=checkpoint_every)


def _train(lm: Any, rows: "list[Row]", recipe: "Recipe", out: Path, **options: Any) -> None:
    """Train, and let the main one of several processes say how it goes."""
    from analyses.progress import counting
    from interp.files import read_json
    from training.finetune import batch_order, hold_out
    from training.finetune import finetune as train
    from training.processes import is_main

    if not is_main():
        train(lm, rows, recipe, out, **options)
        return
    n = len(hold_out(rows, recipe.held_out, recipe.seed)[0]) if recipe.held_out else len(rows)
    with counting(f"tuning on {n} rows", len(batch_order(n, recipe))) as count:
        train(
            lm, rows, recipe, out, progress=lambda step, loss: count(step, f"loss {loss:.3f} nats a token"), **options
        )
    losses = read_json(out / "loss.json")
    if "held_out" in losses:
        step = losses["best_step"]
        (loss,) = (point["loss"] for point in losses["held_out"] if point["step"] == step)
        typer.echo(f"held-out loss: {loss:.3f} nats a token at step {step}, the lowest of {len(losses['held_out'])}")
    typer.echo(f"adapter: {out}")
    if options["keep_epochs"]:
        typer.echo(f"what it answered after each epoch: anachron epochs --run {out} --out {out / 'epochs.json'}")


def _held_out(source: str | None) -> "tuple[float | None, list[Row]]":
    """(fraction of the rows, rows of their own): one of the two."""
    from analyses.steps import training_rows

    if source is None:
        return None, []
    try:
        return float(source), []
    except ValueError:
        return None, training_rows(source)


def _targets(text: str | None) -> str | tuple[str, ...] | None:
    return text if text in (None, "all-linear") else tuple(name.strip() for name in text.split(","))
