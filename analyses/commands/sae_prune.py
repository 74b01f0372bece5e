"""`anachron sae prune`: an SAE without the latents that are never active on a corpus."""

from typing import Annotated

import typer

from analyses.commands.options import Device, Dtype, Model, OutFolder, Revision, Seed
from analyses.commands.sae import AdapterOption, CorpusFile, PositionsName, corpus_of, opened


def prune(
    sae: Annotated[str, typer.Option(help="A local folder, a hub id, or release:id of sae-lens.")],
    out: OutFolder,
    model: Model = "almanac",
    adapter: AdapterOption = None,
    layer: Annotated[int | None, typer.Option(help="The SAE's block, where its files don't say.", min=0)] = None,
    corpus: CorpusFile = None,
    positions: PositionsName = "all",
    documents: Annotated[int, typer.Option(help="Documents on which a latent has to be active.", min=1)] = 10_000,
    stored: Annotated[str, typer.Option(help="Precision of the matrices in the file: float16 or float32.")] = "float16",
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
) -> None:
    """Leave out the latents that are active nowhere in so many documents, and write what is left in sae-lens's format.

    By default documents of the embedded model's world from the blocks that SAEs are trained on, so that those of `sae
    evaluate` stay unseen.
    """
    import torch

    from analyses.progress import telling
    from interp.dictionaries.evaluation import reconstruction
    from interp.dictionaries.formats import load_dictionary
    from interp.dictionaries.prune import pruned
    from interp.dictionaries.sae import write_sae
    from interp.errors import AnachronError
    from interp.files import write_json
    from interp.positions import by_name
    from training.lora import public_name
    from training.sae_recipes import STORED

    if stored not in STORED:
        raise AnachronError(f"--stored {stored}: use {' or '.join(STORED)}")
    with telling() as say, opened(model, adapter, revision, dtype, device) as lm:
        whole = load_dictionary(sae, lm=lm, layer=layer).to(lm.device)
        blocks = corpus_of(lm, corpus, documents, seed)
        say(f"encoding the activations of {documents} documents at {whole.point}")
        found = reconstruction(lm, whole, blocks.block(0), by_name(positions))
    part = pruned(whole.to("cpu"), found.frequency > 0)
    made = {
        "from": {key: whole.identity[key] for key in ("digest", "d_sae", "point")},
        "corpus": dict(blocks.about),
        "positions": positions,
        "activations": found.n,
        "left": part.d_sae,
    }
    metadata = {"model_name": public_name(lm), "pruned": made}
    write_sae(part, out, metadata, getattr(torch, stored))
    write_json(out / "pruned.json", {"step": "sae prune", **made})
    typer.echo(f"{part.d_sae} of {whole.d_sae} latents are left: {out}")
