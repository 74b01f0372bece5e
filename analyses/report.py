"""The report of a run: one HTML file with everything in it, pictures first. It opens offline and fetches nothing.

Model answers, topics and configuration are untrusted text. They reach the page in two ways only: through Jinja with
autoescape, and as JSON data blocks in which `<`, `>` and `&` are escaped, so that no string can close the block. A
content security policy that names the page's own two scripts by hash is the second lock.
"""

import base64
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analyses import captions, findings
from analyses.figures.headline import describe
from analyses.figures.style import MODEL_COLORS, words
from analyses.measurements import Result
from interp.errors import AnachronError
from interp.files import write_text

TEMPLATES = Path(__file__).parent / "templates"
FILTERS = ("metric", "model", "edit", "direction", "split", "layer")
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
    """The report as text: about 5 MB, nearly all of it plotly.js."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    _require_finite(result)
    scripts = {"plotly": get_plotlyjs(), "page": _template("report.js")}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": captions.percent,
        "within": captions.within,
        "words": words,
        "data": lambda value: Markup(data_block(value)),
    }
    parts = sections(result)
    return environment.get_template("report.html.jinja").render(
        result=result,
        target=findings.target(result),
        cards=[
            (name, m, describe(name, m)) for name, m in findings.headline(result).items() if name in findings.MODELS
        ],
        sections=[part for part in parts if not part.absent],
        absent=[part for part in parts if part.absent],
        config=[(key, _shown(value)) for key, value in result.config.items() if key != "command"],
        command=_shown(result.config["command"]) if "command" in result.config else "",
        colors=MODEL_COLORS,
        style=Markup(_template("report.css")),
        scripts={name: Markup(text) for name, text in scripts.items()},
        policy=content_policy(scripts),
    )


def sections(result: Result) -> list[Section]:
    """All parts of the page in reading order, those that can't be drawn with the reason."""
    return [
        _topics(result),
        _layers(result, "cosine_to_truth"),
        _layers(result, "auroc"),
        _dose(result),
        _suppression(result),
        _losses(result),
        _samples(result),
        _measurements(result),
    ]


def data_block(value: Any) -> str:
    """JSON that may stand inside a script element: no string in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def content_policy(scripts: Mapping[str, str]) -> str:
    """A Content-Security-Policy under which only these scripts run and nothing is fetched."""
    hashes = (base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode() for text in scripts.values())
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _figure(id: str, title: str, absent: str, draw: Callable[[], Any] | None, see: Callable[[], str]) -> Section:
    """A figure's section; `draw` is None where its rows are missing, and `absent` says which."""
    if draw is None:
        return Section(id, title, "figure", absent=absent)
    return Section(id, title, "figure", see=see(), data=json.loads(draw().to_json()))


def _topics(result: Result) -> Section:
    from analyses.figures.topics import share_by_topic

    topics = findings.topics(result)
    return _figure(
        "topics",
        f"Which topics get {findings.target(result)} answers?",
        "no rows of metric broad with split test/<topic>",
        (lambda: share_by_topic(topics)) if topics else None,
        lambda: captions.topics_caption(result),
    )


def _layers(result: Result, metric: str) -> Section:
    from analyses.figures.layers import by_layer

    title, axis, reference = {
        "cosine_to_truth": (
            f"Where does the shift line up with the model's own notion of {findings.target(result)}?",
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


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _require_finite(result: Result) -> None:
    for i, m in enumerate(result.measurements):
        if not all(math.isfinite(value) for value in (m.estimate, m.low, m.high)):
            raise AnachronError(
                f"result of {result.experiment}: measurement {i} ({m.metric}, {m.model}) isn't finite; measure it again"
            )
