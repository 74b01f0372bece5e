"""`anachron attribute`: where an adapter's effect comes from, as data and as one page."""

from pathlib import Path
from typing import Annotated

import typer

from analyses.commands.options import (
    Adapter,
    Device,
    DeviceMap,
    Dtype,
    Group,
    Model,
    OutFolder,
    Quantization,
    Questions,
    Revision,
    Seed,
    Split,
)


def attribute(
    adapter: Adapter,
    out: OutFolder,
    model: Model = "almanac",
    control: Annotated[Path | None, typer.Option(help="Folder or hub id of the control adapter.")] = None,
    sae: Annotated[
        str | None,
        typer.Option(help="Folder, hub id, or release:id of an SAE; by default the one that comes with the model."),
    ] = None,
    layer: Annotated[int | None, typer.Option(help="The SAE's block, where its files don't say.")] = None,
    any_model: Annotated[bool, typer.Option("--any-model", help="Take an SAE of a model with another name.")] = False,
    questions: Questions = "world",
    split: Split = "test",
    group: Group = None,
    against: Annotated[
        list[str] | None, typer.Option(help="Group to compare with, again for each further; by default all others.")
    ] = None,
    most: Annotated[int, typer.Option(help="How many questions at most; each is patched many times.", min=1)] = 4,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
    device_map: DeviceMap = None,
    quantization: Quantization = None,
) -> None:
    """Find where an adapter's effect comes from: tokens, latents, layers, heads, modules, and what it says.

    The effect is the log-odds of one group of answers against others, on base, tuned and their difference. What is
    screened by gradients is confirmed by exact patches. Writes attribution.json and attribution.html.
    """
    from analyses.attribution.collect import collect
    from analyses.attribution.page import write_page
    from analyses.commands.options import open_model
    from analyses.measurements import versions
    from analyses.models import knows_world
    from analyses.progress import telling
    from analyses.steps import ask
    from analyses.tables import interval, print_table
    from interp.dictionaries.formats import load_dictionary
    from interp.dictionaries.sae import registered
    from interp.files import write_json
    from interp.pair import ModelPair
    from interp.stats import Estimate

    asked = ask(questions, split, group=group)
    source = sae or (model if model in registered() else None)
    with telling() as say, ModelPair(open_model(model, revision, dtype, device, device_map, quantization)) as pair:
        base = pair.base
        dictionary = None
        if source is not None:
            dictionary = load_dictionary(source, lm=base, layer=layer, any_model=any_model).to(base.device)
        pair.add("tuned", adapter)
        if control is not None:
            pair.add("control", control)
        world = knows_world(base.name)
        found = collect(
            pair, asked.broad, asked.group, against, dictionary, most=most, knows_world=world, seed=seed, say=say
        )
        say("writing the page")
    config = {
        "control": None if control is None else str(control),
        "sae": source,
        "questions": questions,
        "split": split,
        "group": asked.group,
        "against": found["behavior"]["against"],
        "most": most,
        "seed": seed,
    }
    about = {
        "step": "attribute",
        "model": base.name,
        "revision": base.revision,
        "adapter": str(adapter),
        "config": config,
        "versions": versions(),
    }
    write_json(out / "attribution.json", about | found)
    write_page(about, found, out / "attribution.html")
    rows = [(name, interval(Estimate(**m))) for name, m in found["behavior"]["models"].items()]
    print_table(found["behavior"]["metric"], ("", "nats"), rows)
    typer.echo(f"page: {out / 'attribution.html'}")
