"""`anachron crosscoder train`: one dictionary over the activations of a model and of a fine-tune of it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from analyses.commands.options import Adapter, Device, Dtype, Model, OutFolder, Revision, Seed
from analyses.commands.sae import CorpusFile, PositionsName, corpus_of


def train(
    adapter: Adapter,
    out: OutFolder,
    model: Model = "almanac",
    against: Annotated[
        Path | None, typer.Option(help="Adapter to compare with, such as a control's; by default the model alone.")
    ] = None,
    point: Annotated[str, typer.Option(help="Layer, or layer and site: 2, 2.resid_post.")] = "2",
    corpus: CorpusFile = None,
    positions: PositionsName = "all",
    d_sae: Annotated[int | None, typer.Option(help="Latents.", min=1)] = None,
    k: Annotated[float | None, typer.Option(help="Active latents of a token, on average.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs of activations a step.", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    documents_per_block: Annotated[
        int, typer.Option(help="Documents whose activations are held at once.", min=1)
    ] = 512,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 500,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
) -> None:
    """Train a crosscoder on pairs of activations, and say which latents either model has to itself.

    Writes crosscoder.safetensors and .json; base/ and tuned/, its sides as SAEs for the other commands; latents.json,
    decoder norms and latent scaling on activations not trained on (of a corpus file: on another draw). A run that was
    stopped goes on from its last checkpoint.
    """
    from analyses.commands.options import given, open_model
    from analyses.latents.crosscoder import quality
    from analyses.measurements import versions
    from analyses.progress import counting
    from interp.dictionaries.crosscoder import MEMBERS
    from interp.dictionaries.sae import write_sae
    from interp.files import write_json
    from interp.hooks import HookPoint, require_points
    from interp.pair import BASE, ModelPair
    from interp.positions import by_name
    from training.crosscoder import CrosscoderRecipe, train_crosscoder
    from training.lora import public_name
    from training.pairs import captured

    options = given(d_sae=d_sae, k=k, steps=steps, batch_size=batch_size, learning_rate=learning_rate)
    recipe, where = CrosscoderRecipe(seed=seed, **options), HookPoint.parse(point)
    lm = open_model(model, revision, dtype, device)
    require_points(lm, [where])
    texts = corpus_of(lm, corpus, documents_per_block, seed)
    with ModelPair(lm) as pair, counting("training", recipe.steps) as count:
        pair.add("tuned", adapter)
        if against is not None:
            pair.add("against", against)
        names = (BASE if against is None else "against", "tuned")
        pairs = captured(pair, names, texts, where, by_name(positions))
        adapters = {side: info.digest for side in names if (info := pair.adapter(side)) is not None}
        coder = train_crosscoder(
            pairs,
            recipe,
            out,
            point=where,
            about={"model": public_name(lm), "adapters": adapters, "positions": positions, **texts.about},
            device=lm.device,
            checkpoint_every=checkpoint_every,
            progress=lambda step, fvu: count(step, f"fvu {fvu:.4f}"),
        )
        unseen = pairs(recipe.steps)  # a step takes a batch, and a block holds at least one
    for side in MEMBERS:
        write_sae(coder.member(side), out / side, {"model_name": public_name(lm), "crosscoder": coder.sha256})
    results = quality(coder, [unseen])
    config = {"model": model, "adapter": str(adapter), "against": None if against is None else str(against)}
    about: dict[str, Any] = {"step": "crosscoder train", "config": config, "trained": dict(coder.trained)}
    write_json(out / "latents.json", about | {"results": results, "versions": versions()})
    _print(results)
    typer.echo(f"crosscoder: {out}")


def _print(results: dict[str, Any]) -> None:
    from analyses.tables import print_table
    from interp.dictionaries.crosscoder import CLASSES

    counts = {kind: sum(latent["class"] == kind for latent in results["latents"]) for kind in CLASSES}
    rows = [
        ("activations", results["n"]),
        *((f"fvu, {member}", fvu) for member, fvu in results["fvu"].items()),
        ("l0", results["l0"]),
        ("living latents", results["alive"]),
        *((f"of them {kind}", count) for kind, count in counts.items()),
    ]
    print_table("crosscoder", ("", "figure"), rows)
