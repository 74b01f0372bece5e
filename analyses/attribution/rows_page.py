"""The rows and their retraining as one HTML page, and what it says in a sentence. Every number comes from the data."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analyses.attribution.page import Section
from analyses.attribution.rows import ALL, BOTTOM, RANDOM, TOP
from analyses.figures.latents import latent_bars
from analyses.figures.maps import head
from analyses.figures.row_scores import row_scores
from analyses.figures.style import signed
from analyses.page import render
from interp.files import write_text
from interp.stats import Estimate

Data = dict[str, Any]
CALLED = {ALL: "nothing left out", TOP: "top rows", BOTTOM: "bottom rows", RANDOM: "random rows, mean of draws"}
SHARES = ("broad", "narrow")


def write_page(about: Mapping[str, Any], found: Data, path: str | Path) -> None:
    """Write the page, atomically. `about`: model, config and versions; `found`: rows, measured and summary."""
    write_text(path, page_html(about, found))


def page_html(about: Mapping[str, Any], found: Data) -> str:
    """The page as text. Same data and same plotly, same text."""
    return render(
        "rows.html.jinja",
        about=about,
        rows=len(found["rows"]),
        seeds=len({one["seed"] for one in found["measured"]}),
        verdict=verdict(found),
        sections=sections(found),
        absent=[],
        config=[
            (key, value if isinstance(value, str) else json.dumps(value)) for key, value in about["config"].items()
        ],
    )


def sections(found: Data) -> list[Section]:
    """The scores, and what answers are given without which rows."""
    return [_scores(found), _retrained(found)]


def verdict(found: Data) -> str:
    """Is what the scores say true of the trained models?"""
    summary, k = found["summary"], found["k"]
    arms, gap = summary["arms"], summary["differences"][TOP]["broad"]
    holds = (
        "So the rows that score highest do push it"
        if summary["supported"]
        else "This does not confirm that the rows that score highest push it more than others: for that the difference "
        "has to lie above 0 with its interval, over three seeds or more, and every draw above the top's"
    )
    return (
        f"Broad share {_within(arms[ALL]['broad'])} with all rows, {_within(arms[TOP]['broad'])} without the {k} of "
        f"largest score, {_within(arms[BOTTOM]['broad'])} without the {k} of smallest, "
        f"{_within(arms[RANDOM]['broad'])} without {k} random ones. Random minus top: {_within(gap)} over "
        f"n = {gap['n']} seeds; without the top rows it is lower than in {summary['lower']} of "
        f"{len(summary['draws'])} draws. {holds}."
    )


def _scores(found: Data) -> Section:
    rows = found["rows"]
    marked = {"top": [r["row"] for r in rows if r["top"]], "bottom": [r["row"] for r in rows if r["bottom"]]}
    figure = row_scores([row["score"] for row in rows], [row["text"] for row in rows], marked)
    order = sorted(rows, key=lambda row: -row["score"])
    table = tuple((str(row["row"]), f"{row['score']:.3g}", row["text"]) for row in order)
    first, last = order[0], order[-1]
    see = (
        f"How far a step on each row alone would move the base along {found['direction']['method'].replace('_', ' ')} "
        f"at {found['direction']['point']}: from {last['score']:.3g} ({last['text']!r}) to {first['score']:.3g} "
        f"({first['text']!r}). Above 0 the row pushes along it."
    )
    return Section(
        "scores",
        "Which rows push along the direction?",
        see,
        (json.loads(figure.to_json()),),
        ("row", "score", "question and answer"),
        table,
    )


def _retrained(found: Data) -> Section:
    summary = found["summary"]
    named = {CALLED[arm]: own for arm, own in summary["arms"].items()}
    named |= {f"random rows, draw {draw}": own for draw, own in enumerate(summary["draws"], 1)}
    bars = {name: {m: Estimate(**own[m]) for m in SHARES if m in own} for name, own in named.items()}
    figure = latent_bars(bars, title="share of answers, by what was left out")
    head(figure, "What the models answer without them", 70)
    table = tuple(
        (name, *(_within(own[m]) if m in own else "–" for m in (*SHARES, "shift"))) for name, own in named.items()
    )
    table += tuple(
        (
            f"random minus {CALLED[arm].removesuffix(' rows')}",
            *(_within(own[m]) if m in own else "–" for m in (*SHARES, "shift")),
        )
        for arm, own in summary["differences"].items()
    )
    note = (
        "shift: how far the stream lies along the direction from the base's, in its own units. Brackets are 95 % "
        "intervals over training seeds, too narrow where seeds are few; draws vary as well."
    )
    columns = ("left out", *SHARES, "shift")
    return Section(
        "retrained",
        "Are they missed when they are left out?",
        verdict(found),
        (json.loads(figure.to_json()),),
        columns,
        table,
        note,
    )


def _within(value: Data) -> str:
    return f"{signed(value['estimate'])} [{signed(value['low'])} {signed(value['high'])}]"
