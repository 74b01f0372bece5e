"""`anachron latents`: a browsable page of a dictionary's latents in a base and a tuned model."""

from pathlib import Path
from typing import Annotated

import typer

from analyses.commands.options import (
    Adapters,
    Controls,
    Device,
    DeviceMap,
    Dtype,
    Model,
    OutFolder,
    Quantization,
    Questions,
    Revision,
    Seed,
    Split,
)


def latents(
    adapter: Adapters,
    out: OutFolder,
    model: Model = "almanac",
    control: Controls = None,
    sae: Annotated[
        str | None,
        typer.Option(help="Folder, hub id, or release:id of the SAE; by default the one that comes with the model."),
    ] = None,
    layer: Annotated[int | None, typer.Option(help="The SAE's block, where its files don't say.")] = None,
    questions: Questions = "world",
    split: Split = "validation",
    positions: Annotated[
        str, typer.Option(help="Tokens compared: all, prompt, last_prompt, or span(a,b).")
    ] = "last_prompt",
    texts: Annotated[
        Path | None, typer.Option(help="Chat rows (JSONL) to find examples in; by default documents of the world.")
    ] = None,
    documents: Annotated[
        int, typer.Option(help="How many documents of the world, for examples and labels.", min=50)
    ] = 2000,
    any_model: Annotated[bool, typer.Option("--any-model", help="Take an SAE of a model with another name.")] = False,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
    device_map: DeviceMap = None,
    quantization: Quantization = None,
) -> None:
    """Show the latents that a fine-tune changes, in a page that opens without a server.

    Mean activation and frequency of each latent in base, tuned and control models on the same questions, with intervals
    and q values; examples, promoted tokens, companions; on the embedded model what each latent detects.
    """
    from analyses.commands.options import add_adapters, open_model
    from analyses.documents import held_out_documents
    from analyses.latents.page import latents_page
    from analyses.progress import telling
    from analyses.steps import ask
    from analyses.tables import print_table
    from interp.dictionaries.formats import load_dictionary
    from interp.errors import AnachronError
    from interp.pair import ModelPair
    from interp.positions import by_name
    from interp.prompts import encode_chat, encode_prompt
    from training.rows import read_rows
    from training.world.world import load_world

    if not adapter:
        raise AnachronError("no --adapter; give the tuned adapter, once for each seed")
    with telling() as say, ModelPair(open_model(model, revision, dtype, device, device_map, quantization)) as pair:
        dictionary = load_dictionary(sae or model, lm=pair.base, layer=layer, any_model=any_model).to(pair.base.device)
        tuned, controls = add_adapters(pair, "tuned", adapter), add_adapters(pair, "control", control)
        asked = ask(questions, split).broad
        prompts = [encode_prompt(pair.base, question.messages) for question in asked]
        if texts is None:
            found = held_out_documents(pair.base, load_world(), documents, seed)
        else:
            found = [encode_chat(pair.base, row.messages) for row in read_rows(texts)]
        where = by_name(positions)
        changed = latents_page(
            pair,
            dictionary,
            prompts,
            found,
            tuned,
            controls,
            where,
            out,
            say,
            units=[question.topic for question in asked],
            documents=documents,
            seed=seed,
        )
    name = "tuned_minus_control" if controls else "tuned_minus_base"
    rows = [
        (row.latent, f"{row.mean:+.3f} [{row.low:+.3f} {row.high:+.3f}]", f"{row.q:.3f}", f"{row.means['base']:.3f}")
        for row in changed.top(10, name)
    ]
    print_table(f"largest {name.replace('_', ' ')}", ("latent", "mean activation", "q", "base"), rows)
    typer.echo(f"page: {out / 'latents.html'}")
