"""`anachron sae train` and `anachron sae evaluate`: an SAE of activations, and how well it stands in for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analyses.commands.options import Device, Dtype, Model, OutFile, OutFolder, Revision, Seed

if TYPE_CHECKING:
    from interp.dictionaries.evaluation import Reconstruction, Splice
    from interp.models import LanguageModel
    from interp.prompts import Encoded
    from training.corpus import Corpus

AdapterOption = Annotated[
    Path | None, typer.Option(help="Folder or hub id of an adapter to switch on; without one it is the model alone.")
]
PositionsName = Annotated[
    str, typer.Option(help="Which tokens: all, prompt, last_prompt, from_last_prompt, answer, or span(start,stop).")
]
CorpusFile = Annotated[
    Path | None,
    typer.Option(help="JSONL of texts or conversations; by default documents of the embedded model's world."),
]


def train(
    out: OutFolder,
    model: Model = "almanac",
    point: Annotated[str, typer.Option(help="Layer, or layer and site: 2, 2.resid_post.")] = "2",
    adapter: AdapterOption = None,
    corpus: CorpusFile = None,
    positions: PositionsName = "all",
    architecture: Annotated[str | None, typer.Option(help="batchtopk, matryoshka, topk, jumprelu or standard.")] = None,
    d_sae: Annotated[int | None, typer.Option(help="Latents.", min=1)] = None,
    k: Annotated[
        float | None, typer.Option(help="Active latents of a token, on average (standard: has none).", min=0)
    ] = None,
    widths: Annotated[str, typer.Option(help="Of matryoshka: the inner widths, as 256,1024.")] = "",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Activations a step.", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    penalty: Annotated[
        float | None, typer.Option(help="Weight of the penalty on active latents (jumprelu, standard).")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="bfloat16 or float32, of matrix products.")] = None,
    documents_per_block: Annotated[
        int, typer.Option(help="Documents whose activations are held at once.", min=1)
    ] = 512,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 1000,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
) -> None:
    """Train an SAE by sae-lens on activations of a model.

    A run that was stopped goes on from its last checkpoint. Options left out are those of almanac's own SAE.
    """
    from analyses.commands.options import given
    from analyses.processor import bfloat16_warning
    from analyses.progress import counting
    from interp.hooks import HookPoint
    from interp.positions import by_name
    from training.dictionaries import train_sae
    from training.sae_recipes import SaeRecipe

    k = 16.0 if k is None and architecture == "topk" else k  # it keeps a whole number of each row
    options = given(architecture=architecture, d_sae=d_sae, k=k, steps=steps, batch_size=batch_size)
    options |= given(learning_rate=learning_rate, penalty=penalty, precision=precision)
    recipe = SaeRecipe(seed=seed, widths=_widths(widths), **options)
    if warning := bfloat16_warning(recipe.precision, device):
        typer.secho(warning, err=True, fg="yellow")
    with opened(model, adapter, revision, dtype, device) as lm, counting("training", recipe.steps) as count:
        train_sae(
            lm,
            corpus_of(lm, corpus, documents_per_block, seed),
            HookPoint.parse(point),
            recipe,
            out,
            positions=by_name(positions),
            checkpoint_every=checkpoint_every,
            progress=lambda step, fvu, l0: count(step, f"fvu {fvu:.4f}, l0 {l0:.1f}"),
        )
    typer.echo(f"SAE: {out}")


def evaluate(
    out: OutFile,
    sae: Annotated[str, typer.Option(help="almanac, a local folder, a hub id, or release:id of sae-lens.")] = "almanac",
    model: Model = "almanac",
    adapter: AdapterOption = None,
    layer: Annotated[int | None, typer.Option(help="The SAE's block, where its files don't say.", min=0)] = None,
    corpus: CorpusFile = None,
    positions: PositionsName = "all",
    documents: Annotated[int, typer.Option(help="Documents to measure on.", min=1)] = 1000,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
) -> None:
    """Measure reconstruction, sparsity, dead latents, and the model's loss with the reconstruction in place.

    By default on documents of the embedded model's world that neither the model nor its SAE was trained on.
    """
    from dataclasses import asdict

    from analyses.measurements import versions
    from analyses.progress import telling
    from interp.dictionaries.evaluation import loss_recovered, reconstruction
    from interp.dictionaries.formats import load_dictionary
    from interp.files import write_json
    from interp.positions import by_name

    with telling() as say, opened(model, adapter, revision, dtype, device) as lm:
        dictionary = load_dictionary(sae, lm=lm, layer=layer).to(lm.device)
        texts = _texts(lm, corpus, documents, seed)
        say(f"encoding the activations of {len(texts)} documents at {dictionary.point}")
        found = reconstruction(lm, dictionary, texts, by_name(positions))
        say("the model's loss with the reconstruction in place")
        loss = loss_recovered(lm, dictionary, texts)
    config = {
        "sae": sae,
        "model": model,
        "adapter": None if adapter is None else str(adapter),
        "corpus": None if corpus is None else str(corpus),
        "positions": positions,
        "documents": len(texts),
        "seed": seed,
    }
    results = _figures(found) | {"loss": asdict(loss) | {"recovered": loss.recovered}}
    identity = dict(dictionary.identity)
    write_json(
        out,
        {"step": "sae evaluate", "config": config, "sae": identity, "results": results, "versions": versions()},
    )
    _print(dictionary.name, found, loss)
    typer.echo(f"evaluation: {out}")


@contextmanager
def opened(
    model: str, adapter: Path | None, revision: str | None, dtype: str, device: str
) -> "Iterator[LanguageModel]":
    from analyses.models import open_model
    from interp.pair import ModelPair

    base = open_model(model, revision, dtype, device)
    if adapter is None:
        yield base
        return
    with ModelPair(base) as pair:
        pair.add("adapter", adapter)
        with pair.using("adapter") as lm:
            yield lm


def corpus_of(lm: "LanguageModel", file: Path | None, block: int, seed: int) -> "Corpus":
    """Blocks of so many texts of a file; without one of the world's documents."""
    from training.corpus import file_corpus, world_corpus
    from training.world.world import load_world

    return world_corpus(lm, load_world(), block) if file is None else file_corpus(lm, file, block, seed)


def _texts(lm: "LanguageModel", file: Path | None, documents: int, seed: int) -> "list[Encoded]":
    from analyses.documents import held_out_documents
    from training.corpus import read_texts
    from training.world.world import load_world

    if file is None:
        return held_out_documents(lm, load_world(), documents, seed)
    return read_texts(lm, file)[:documents]


def _widths(text: str) -> tuple[int, ...]:
    from interp.errors import AnachronError

    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() for part in parts):
        raise AnachronError(f"widths {text!r} aren't understood; write whole numbers, as 256,1024")
    return tuple(int(part) for part in parts)


def _figures(found: "Reconstruction") -> dict[str, Any]:
    """Plain data; of positions, those that have rows."""
    at = found.rows_at.nonzero().squeeze(1).tolist()
    return {
        "n": found.n,
        "fvu": found.fvu,
        "l0": found.l0,
        "dead": found.dead,
        "cosine": found.cosine,
        "norm_ratio": found.norm_ratio,
        "positions": [{"position": p, "n": int(found.rows_at[p]), "fvu": float(found.fvu_at[p])} for p in at],
    }


def _print(name: str, found: "Reconstruction", loss: "Splice") -> None:
    from analyses.tables import print_table

    rows = [
        ("activations", found.n),
        ("fvu", found.fvu),
        ("l0", found.l0),
        ("dead latents", found.dead),
        ("cosine", found.cosine),
        ("nats a token, plain", loss.plain),
        ("reconstruction in place", loss.spliced),
        ("with the error added", loss.with_error),
        ("zeros in place", loss.zeroed),
        ("loss recovered", loss.recovered),
    ]
    print_table(name, ("", "figure"), rows)
