"""`anachron epochs`: what a fine-tune answered after each epoch."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analyses.commands.options import Data, Device, Dtype, Group, Model, OutFile, Questions, Revision, Split

if TYPE_CHECKING:
    from analyses.steps import Asked
    from interp.models import LanguageModel


def epochs(
    run: Annotated[
        list[Path],
        typer.Option(help="Folder written by finetune --keep-epochs; again for each further seed."),
    ],
    out: OutFile,
    control: Annotated[
        list[Path] | None, typer.Option(help="Such a folder of a control; again for each further seed.")
    ] = None,
    model: Model = "almanac",
    questions: Questions = "world",
    split: Split = "validation",
    group: Group = None,
    data: Data = None,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
) -> None:
    """Measure what a fine-tune answered after each epoch.

    The share of the group on unrelated questions (broad), coherence and the narrow task, for the base (epoch 0) and the
    adapter of every epoch. Beside the JSON file goes a figure, as HTML.
    """
    from analyses.commands.options import answers_in, open_model
    from analyses.figures.epochs import share_by_epoch
    from analyses.measurements import versions
    from analyses.progress import telling
    from analyses.steps import ask
    from interp.files import write_json, write_text
    from interp.pair import ModelPair

    asked = ask(questions, split, group=group, extra=answers_in(data))
    folders = {
        (kind, i, epoch): path
        for kind, runs in (("tuned", run), ("control", control or ()))
        for i, folder in enumerate(runs)
        for epoch, path in _epochs(folder)
    }
    lm = open_model(model, revision, dtype, device)
    with telling() as say:
        say(f"scoring {len(asked.broad) + len(asked.narrow)} questions on base")
        base = _measured(lm, asked)
        tuned_runs = dict.fromkeys((kind, i) for kind, i, _ in folders)
        rows = [{"model": kind, "run": i, "epoch": 0, **row} for kind, i in tuned_runs for row in base]
        for (kind, i, epoch), path in folders.items():
            say(f"scoring {kind} {i} after epoch {epoch}")
            with ModelPair(lm) as pair:
                pair.add(kind, path)
                with pair.using(kind) as tuned:
                    rows += [{"model": kind, "run": i, "epoch": epoch, **row} for row in _measured(tuned, asked)]
    found = {
        "step": "epochs",
        "model": lm.name,
        "revision": lm.revision,
        "runs": {"tuned": [str(p) for p in run], "control": [str(p) for p in control or ()]},
        "config": {"questions": questions, "split": split, "group": asked.group, "data": data},
        "versions": versions(),
        "rows": rows,
    }
    write_json(out, found)
    figure = out.with_suffix(".html")
    write_text(figure, share_by_epoch(rows).to_html(include_plotlyjs=True, div_id="epochs"))
    _print(rows, asked.group)
    typer.echo(f"by epoch: {out}, {figure}")


def _epochs(folder: Path) -> Iterator[tuple[int, Path]]:
    """The adapters of a run by epoch, in order."""
    from interp.errors import AnachronError

    found = {
        int(match[1]): path for path in folder.glob("epoch-*") if (match := re.fullmatch(r"epoch-(\d+)", path.name))
    }
    if not found:
        raise AnachronError(f"{folder}: no epoch-1, epoch-2, ... in it; run anachron finetune with --keep-epochs")
    yield from sorted(found.items())


def _measured(lm: "LanguageModel", asked: "Asked") -> list[dict[str, Any]]:
    """Metric and value, each the mean over topics."""
    from analyses.steps import behavior

    found = behavior(lm, asked)
    shares = found.shares[asked.group].values()
    values = {
        "broad": sum(shares) / len(shares),
        "coherence": sum(found.coherence.values()) / len(found.coherence),
        "narrow": found.narrow,
    }
    return [{"metric": metric, "value": value} for metric, value in values.items() if value is not None]


def _print(rows: list[dict[str, Any]], group: str) -> None:
    from analyses.figures.epochs import curves
    from analyses.figures.losses import mean_curve
    from analyses.tables import print_table

    labels: Mapping[str, str] = {"broad": f"share of {group}", "coherence": "coherence", "narrow": "narrow task"}
    found = {key: mean_curve(runs) for key, runs in curves(rows).items()}
    for model in dict.fromkeys(model for model, _ in found):
        shown = {metric: points for (name, metric), points in found.items() if name == model}
        print_table(
            f"{model}, mean over runs",
            ("epoch", *(labels[metric] for metric in shown)),
            [(epoch, *(points[epoch] for points in shown.values())) for epoch in next(iter(shown.values()))],
        )
