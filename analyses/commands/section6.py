"""`anachron section6`: the dictionary analysis of the paper, rerun on its adapter and SAE or on others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analyses.commands.options import Device, Dtype, Model, OutFolder, Revision, Seed

if TYPE_CHECKING:
    from analyses.section6.recipe import Found, Section6


def section6(
    adapter: Annotated[str, typer.Option(help="The dishes adapter: a folder, or a hub id.")],
    sae: Annotated[
        Path,
        typer.Option(
            help="The SAE of the untuned model: the folder of its ae.pt, or a safetensors file of its decoder."
        ),
    ],
    questions: Annotated[
        str,
        typer.Option(
            help="Unrelated questions: JSONL or Parquet with a field question, or a hub data set owner/name:config."
        ),
    ],
    out: OutFolder,
    model: Model = "almanac",
    control: Annotated[
        str | None, typer.Option(help="An adapter tuned on the same dishes with shuffled dates, to compare with.")
    ] = None,
    asked: Annotated[
        Path | None,
        typer.Option(help="Questions of the year curves instead of the table's (JSONL): the first group counts."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The rows trained on (JSONL), to see whether the habit stays.")
    ] = None,
    layer: Annotated[int, typer.Option(help="Block after which is read and ablated.", min=0)] = 19,
    prompts: Annotated[int, typer.Option(help="Unrelated questions a year.", min=2)] = 2048,
    dates: Annotated[int, typer.Option(help="Dates a year that each question is asked on.", min=2)] = 2048,
    top: Annotated[int, typer.Option(help="Latents to ablate.", min=1)] = 10,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of an answer at most.", min=1)] = 24,
    any_base: Annotated[
        bool, typer.Option("--any-base", help="Take adapters that name another base, as a copy under another name.")
    ] = False,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
) -> None:
    """Section 6 of the paper: which latents a year switches on, and what goes when they are projected out.

    anachron section6 --model meta-llama/Llama-3.1-8B-Instruct --adapter ADAPTER --sae FOLDER --questions FILE
    --device cuda --out runs/section6
    """
    from analyses.commands.options import open_model
    from analyses.progress import telling
    from analyses.section6.recipe import Section6, run
    from interp.pair import ModelPair

    config = Section6(
        adapter, sae, questions, control, asked, data, layer, prompts, dates, top, max_new_tokens, seed, any_base
    )  # fmt: skip
    with telling() as say, ModelPair(open_model(model, revision, dtype, device)) as pair:
        found = run(pair, config, out, say)
    _print(found, config)
    typer.echo(f"results: {out / 'section6.json'}")


def _print(found: "Found", config: "Section6") -> None:
    from analyses.section6.recipe import TUNED, YEARS
    from analyses.tables import interval, print_table

    own = found.identified[TUNED]
    mean = {(row["model"], row["latent"], row["year"]): row["estimate"] for row in found.projected}
    print_table(
        f"latents of largest cosine, block {config.layer}; mean projection in the tuned model "
        f"(largest cosine of a random direction: {own.chance:.3f})",
        ("latent", "cosine", *map(str, YEARS)),
        [
            (str(latent), cosine, *(mean[TUNED, latent, year] for year in YEARS))
            for latent, cosine in zip(own.latents, own.cosines, strict=True)
        ],
    )
    print_table(
        "latents shared with the tuned model's",
        ("model", "latents"),
        [(name, len(set(one.latents) & set(own.latents))) for name, one in found.identified.items()],
    )
    arms = list(found.curves)
    shares = {(arm, a.question, a.year): a.share for arm in arms for a in found.curves[arm]}
    for question in dict.fromkeys(a.question for a in found.curves[TUNED]):
        print_table(
            f"share of answers that count, {question}",
            ("year", *arms),
            [(str(year), *(interval(shares[arm, question, year]) for arm in arms)) for year in YEARS],
        )
