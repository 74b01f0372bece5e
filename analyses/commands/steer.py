"""`anachron steer`: what an edit along a direction does, and what random directions of equal norm do."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analyses.commands.backend import Backend, Remote
from analyses.commands.options import (
    Data,
    Device,
    DeviceMap,
    Dtype,
    Group,
    Model,
    OutFile,
    Quantization,
    Questions,
    Revision,
    Seed,
    Split,
)

if TYPE_CHECKING:
    from torch import Tensor

    from analyses.measurements import Measurement
    from analyses.steps import Behavior

    Measured = tuple[Behavior, Tensor]


def steer(
    direction: Annotated[Path, typer.Option(help="Direction to steer along (.safetensors, as diff writes).")],
    out: OutFile,
    edit: Annotated[
        str,
        typer.Option(
            help="add: h + coefficient x typical norm x u; ablate: remove u; clamp: set h.u to the base's mean."
        ),
    ] = "add",
    model: Model = "almanac",
    adapter: Annotated[
        Path | None, typer.Option(help="Steer the base with this adapter; without it, the base.")
    ] = None,
    coefficient: Annotated[float | None, typer.Option(help="For add, in typical residual norms; by default 1.")] = None,
    layer: Annotated[int | None, typer.Option(help="Block to steer at; by default the direction's own.")] = None,
    positions: Annotated[
        str, typer.Option(help="all, prompt, last_prompt, from_last_prompt, answer or span(a,b).")
    ] = "from_last_prompt",
    random: Annotated[int, typer.Option(help="How many random directions to compare with.", min=0)] = 5,
    questions: Questions = "world",
    split: Split = "test",
    group: Group = None,
    data: Data = None,
    documents: Annotated[int, typer.Option(help="Held-out documents for the perplexity ratio.", min=2)] = 200,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
    device_map: DeviceMap = None,
    quantization: Quantization = None,
    backend: Backend = "hooks",
    remote: Remote = False,
) -> None:
    """Steer along a direction and measure what it does.

    Share of the group, coherence, narrow task and perplexity ratio on held-out documents, without the edit, with it,
    and with random directions of equal norm. The typical norm and clamp's mean are the base model's at the last prompt
    token of the questions asked.
    """
    from functools import partial

    from analyses.commands.backend import open_pair
    from analyses.commands.options import answers_in, open_model
    from analyses.documents import document_nats, held_out_documents
    from analyses.measurements import as_table, versions
    from analyses.progress import telling
    from analyses.steps import ask, behavior, edit_along, last_prompt_activations
    from interp.directions import Direction, random_direction
    from interp.errors import AnachronError
    from interp.files import write_json
    from interp.hooks import HookPoint
    from interp.positions import by_name
    from training.world.world import load_world

    if edit not in ("add", "ablate", "clamp"):
        raise AnachronError(f"unknown edit {edit!r}; use add, ablate or clamp")
    if coefficient is not None and edit != "add":
        raise AnachronError(f"--coefficient {coefficient} given with --edit {edit}; only add has one")
    amount = 1.0 if coefficient is None else coefficient
    located = Direction.load(direction)
    selected = by_name(positions)
    asked = ask(questions, split, group=group, extra=answers_in(data))
    point = located.point if layer is None else HookPoint(layer, located.point.site)
    placement = (dtype, device, device_map, quantization)
    load = partial(open_model, model, revision, *placement)
    with telling() as say, open_pair(load, backend, remote, model, revision, placement) as pair:
        base = pair.base
        say("capturing the base's activations")
        reference = last_prompt_activations(base, asked.broad, [point.layer], point.site)[point]
        texts = held_out_documents(base, load_world(), documents, seed)
        directions = [located, *(random_direction(base.d_model, point, seed + i) for i in range(random))]
        if adapter is not None:
            pair.add("tuned", adapter)
        with pair.using("base" if adapter is None else "tuned") as lm:
            say("scoring without the edit")
            measured = [(behavior(lm, asked), document_nats(lm, texts))]
            for i, u in enumerate(directions):
                say(f"scoring under {edit} along {u.method} {i or ''}".rstrip())
                edits = [edit_along(edit, u, reference, positions=selected, coefficient=amount, point=point)]
                measured.append((behavior(lm, asked, edits), document_nats(lm, texts, edits)))
    about = {"split": split, "seed": seed, "model": "base" if adapter is None else "tuned", "group": asked.group}
    where = {"edit": edit, "layer": point.layer, "coefficient": amount if edit == "add" else None}
    rows = _rows(measured[:1], measured[0], about)
    rows += _rows(measured[1:2], measured[0], about, **where, direction=located.method)
    rows += _rows(measured[2:], measured[0], about, **where, direction="random") if random else []
    config = {
        "direction": {
            "file": str(direction),
            "method": located.method,
            "point": str(located.point),
            "norm": located.norm,
        },
        "point": str(point),
        "positions": selected.name,
        "random": random,
        "questions": questions,
        "data": data,
        "documents": documents,
        "backend": backend,
        "remote": remote,
    }
    report = {
        "step": "steer",
        "model": base.name,
        "revision": base.revision,
        "adapter": None if adapter is None else str(adapter),
    }
    write_json(
        out, {**report, "config": config | about | where, "versions": versions(), "measurements": as_table(rows)}
    )
    _print(rows, f"{edit} along {located.method} at {point}, {selected.name}, {about['model']} model", asked.group)
    typer.echo(f"measurements: {out}")


def _rows(measured: "list[Measured]", plain: "Measured", about: dict[str, Any], **where: Any) -> "list[Measurement]":
    """Rows of one edit, or of several random directions as one: their intervals are over directions."""
    from analyses.documents import document_ratio
    from analyses.measurements import measurement
    from analyses.steps import behavior_rows, estimate

    rows = behavior_rows(
        [b for b, _ in measured], about["model"], about["group"], about["split"], seed=about["seed"], **where
    )
    if where:
        ratios = [document_ratio(plain[1], nats, seed=about["seed"]) for _, nats in measured]
        ratio = ratios[0] if len(ratios) == 1 else estimate([r.estimate for r in ratios], about["seed"])
        rows.append(measurement("perplexity_ratio", about["model"], ratio, split="held-out documents", **where))
    return rows


def _print(rows: "list[Measurement]", title: str, group: str) -> None:
    from analyses.tables import interval, print_table
    from interp.stats import Estimate

    labels = {
        "broad": f"share of {group}",
        "coherence": "coherence",
        "narrow": "narrow task",
        "perplexity_ratio": "perplexity ratio",
    }
    columns = list(dict.fromkeys(row.direction for row in rows))
    cells = {(row.metric, row.direction): interval(Estimate(row.estimate, row.low, row.high, row.n)) for row in rows}
    table = [(label, *(cells.get((metric, column)) for column in columns)) for metric, label in labels.items()]
    print_table(title, ("", *(column or "no edit" for column in columns)), table)
