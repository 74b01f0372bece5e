"""The report of a run: one HTML file with everything in it, pictures first. It opens offline and fetches nothing.

What keeps its texts from running is in `analyses.page`.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analyses import captions, findings, wording
from analyses.measurements import Result
from analyses.page import render
from interp.errors import AnachronError
from interp.files import write_text

FILTERS = ("metric", "model", "edit", "direction", "split", "condition", "layer")
APART = (
    "command",
    "attribution",
    "latents_elsewhere",
    "crosscoders",
)  # of the configuration, shown elsewhere on the page
NUMBERS = ("layer", "coefficient", "estimate", "low", "high", "n")  # columns of numbers


@dataclass(frozen=True)
class Section:
    """A part of the page: a title in plain words, what to see, the data its template needs; or why it is absent."""

    id: str
    title: str
    kind: str
    see: str = ""
    data: Any = None
    absent: str = ""


def write_report(result: Result, path: str | Path) -> None:
    """Write the report, atomically. Same result and same plotly, same bytes.

    Parts whose measurements are missing are left out, and the page says so.
    """
    write_text(path, report_html(result))


def report_html(result: Result) -> str:
    """The report as text."""
    _require_finite(result)
    parts = sections(result)
    return render(
        "report.html.jinja",
        result=result,
        target=wording.target(result),
        condition=findings.headline_condition(result),
        cards=[
            (name, m, wording.describe(name, m))
            for name, m in findings.headline(result).items()
            if name in findings.models(result)
        ],
        sections=[part for part in parts if not part.absent],
        absent=[part for part in parts if part.absent],
        config=[(key, _shown(value)) for key, value in result.config.items() if key not in APART],
        command=_shown(result.config["command"]) if "command" in result.config else "",
    )


def sections(result: Result) -> list[Section]:
    """All parts of the page in reading order, those that can't be drawn with the reason."""
    return [
        _conditions(result),
        _topics(result),
        _layers(result, "cosine_to_truth"),
        _layers(result, "auroc"),
        _dose(result),
        _suppression(result),
        _latents(result),
        _latents_by_layer(result),
        _latents_by_year(result),
        _attribution(result),
        _sampled(result),
        _watched(result),
        _losses(result),
        _samples(result),
        _measurements(result),
    ]


def _figure(id: str, title: str, absent: str, draw: Callable[[], Any] | None, see: Callable[[], str]) -> Section:
    """A figure's section; `draw` is None where its rows are missing, and `absent` says which."""
    if draw is None:
        return Section(id, title, "figure", absent=absent)
    return Section(id, title, "figure", see=see(), data=json.loads(draw().to_json()))


def _conditions(result: Result) -> Section:
    from analyses.figures.conditions import share_by_condition, share_by_year

    table = {wording.called(result, name): row for name, row in findings.conditions(result).items()}
    years = findings.years(table)
    draw = (
        (lambda: share_by_year(table, years, findings.trained(result))) if years else lambda: share_by_condition(table)
    )
    return _figure(
        "conditions",
        f"When do {wording.target(result)} answers come?",
        "everything is asked under one condition",
        draw if table else None,
        lambda: captions.conditions_caption(result),
    )


def _sampled(result: Result) -> Section:
    from analyses.figures.sampled import exact_and_sampled

    pairs = findings.agreements(result)
    return _figure(
        "sampled",
        "Do sampled answers say the same as exact shares?",
        "no rows of metric sampled",
        (lambda: exact_and_sampled(pairs)) if pairs else None,
        lambda: captions.sampled_caption(result),
    )


def _watched(result: Result) -> Section:
    from analyses.figures.watched import by_step

    return _figure(
        "by_step",
        "When in fine-tuning does it happen, and to which seeds?",
        "nothing but the loss was watched while tuning",
        (lambda: by_step(result.curves)) if result.curves else None,
        lambda: captions.watched_caption(result),
    )


def _latents(result: Result) -> Section:
    from analyses.figures.latents import latent_bars
    from analyses.latents import sections as latents

    rows = latents.shortlist_bars(result)
    return _figure(
        "latents",
        "Which latents did the tuning switch on?",
        "no latents were looked at",
        (lambda: latent_bars(rows, title="mean activation")) if rows else None,
        lambda: latents.shortlist_caption(result),
    )


def _latents_by_layer(result: Result) -> Section:
    from analyses.figures.latents import latent_bars
    from analyses.latents import sections as latents

    rows = latents.by_layer(result)
    return _figure(
        "latents_by_layer",
        "At which layer are a few latents enough?",
        "latents of one layer were looked at",
        (lambda: latent_bars(rows, title=f"share of {wording.target(result)} answers")) if rows else None,
        lambda: latents.by_layer_caption(result),
    )


def _latents_by_year(result: Result) -> Section:
    from analyses.figures.latent_years import activation_by_year
    from analyses.latents import sections as latents

    curves = latents.by_year(result)
    return _figure(
        "latents_by_year",
        "In which years are they active?",
        "latents were not looked at year by year",
        (lambda: activation_by_year(curves)) if curves else None,
        lambda: latents.by_year_caption(result),
    )


def _attribution(result: Result) -> Section:
    from analyses.attribution import report_sections as attribution

    title, found = "Where does it come from?", attribution.about(result)
    if "absent" in found:
        return Section("attribution", title, "attribution", absent=found["absent"].rstrip("."))
    parts = attribution.parts(result)
    data = {"parts": [part for part in parts if not part.absent], "absent": [part for part in parts if part.absent]}
    return Section("attribution", title, "attribution", attribution.caption(result), data)


def _topics(result: Result) -> Section:
    from analyses.figures.topics import share_by_topic

    topics = findings.topics(result)
    return _figure(
        "topics",
        f"Which {wording.matters(result)} get {wording.target(result)} answers?",
        "no rows of metric broad with split test/<topic>",
        (lambda: share_by_topic(topics)) if topics else None,
        lambda: captions.topics_caption(result),
    )


def _layers(result: Result, metric: str) -> Section:
    from analyses.figures.layers import by_layer

    title, axis, reference = {
        "cosine_to_truth": (
            f"Where does the shift line up with the model's own notion of {wording.notion(result)}?",
            "cosine to the true direction",
            0.0,
        ),
        "auroc": ("Where does a direction tell the two kinds of prompt apart?", "AUROC", 0.5),
    }[metric]
    curves = findings.layer_curves(result, metric)
    return _figure(
        metric,
        title,
        f"no rows of metric {metric} with a direction and a layer for split test",
        (lambda: by_layer(curves, title=axis, reference=reference)) if curves else None,
        lambda: captions.layers_caption(result, metric),
    )


def _dose(result: Result) -> Section:
    from analyses.figures.dose import dose_response

    curves = findings.dose_curves(result)
    chosen = findings.chosen_edit(result, "base", ("add",))
    marked = (
        (chosen.direction, chosen.coefficient)
        if chosen and chosen.direction and chosen.coefficient is not None
        else None
    )
    levels = {name: m.estimate for name, m in findings.headline(result).items() if name in ("base", "tuned")}
    return _figure(
        "dose_response",
        "Does adding the direction make the untouched model do the same?",
        "no rows of metric broad for the base model with edit add and split test at one chosen layer",
        (lambda: dose_response(curves, chosen=marked, levels=levels)) if curves else None,
        lambda: captions.dose_caption(result),
    )


def _suppression(result: Result) -> Section:
    rows = findings.suppressions(result)
    title = "Does taking the direction out undo it, and what else is lost?"
    if not rows:
        return Section(
            "suppression",
            title,
            "suppression",
            absent="no rows of metric broad for the tuned model with edit clamp or ablate",
        )
    return Section("suppression", title, "suppression", captions.suppression_caption(result), rows)


def _losses(result: Result) -> Section:
    from analyses.figures.losses import loss_curves

    return _figure(
        "losses",
        "Did the fine-tunes learn their rows?",
        "the result holds no loss curves",
        (lambda: loss_curves(result.losses)) if result.losses else None,
        lambda: captions.losses_caption(result),
    )


def _samples(result: Result) -> Section:
    title = "What do the models say?"
    if not result.samples:
        return Section("samples", title, "samples", absent="the result holds no sampled answers")
    for i, row in enumerate(result.samples):
        if not {"topic", "question"} <= set(row):
            raise AnachronError(f"samples: row {i} has {', '.join(sorted(row))}; a row needs topic and question")
    columns = list(dict.fromkeys(key for row in result.samples for key in row if key not in ("topic", "question")))
    rows = [
        (row["topic"], row["question"], [row[name] if name in row else "–" for name in columns])
        for row in result.samples
    ]
    topics = list(dict.fromkeys(row["topic"] for row in result.samples))
    see = f"{len(rows)} questions on {len(topics)} topics, one sampled answer a column; read across."
    return Section("samples", title, "samples", see, {"columns": columns, "rows": rows, "topics": topics})


def _measurements(result: Result) -> Section:
    if not result.measurements:
        return Section("measurements", "All measurements", "measurements", absent="the result holds no measurements")
    rows = [asdict(m) for m in result.measurements]
    table = {
        "columns": list(rows[0]),
        "filters": list(FILTERS),
        "numbers": list(NUMBERS),
        "rows": [list(row.values()) for row in rows],
    }
    see = f"{len(rows)} rows, as in result.json. Choose values to narrow them down; click a heading to sort."
    return Section("measurements", "All measurements", "measurements", see, table)


def _shown(value: Any) -> str:
    """A configuration value as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _require_finite(result: Result) -> None:
    for i, m in enumerate(result.measurements):
        if not all(math.isfinite(value) for value in (m.estimate, m.low, m.high)):
            raise AnachronError(
                f"result of {result.experiment}: measurement {i} ({m.metric}, {m.model}) isn't finite; measure it again"
            )
