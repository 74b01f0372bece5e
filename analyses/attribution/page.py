"""Attribution as one HTML page: a figure and a plain sentence a section. It opens offline and fetches nothing.

What keeps its texts from running is in `analyses.page`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyses.attribution import sentences
from analyses.figures.adapter_map import adapter_map
from analyses.figures.component_bars import called, component_bars
from analyses.figures.latents import latent_bars
from analyses.figures.position_map import position_map
from analyses.figures.style import signed
from analyses.figures.token_strips import token_strips
from analyses.figures.waterfall import waterfall
from analyses.page import render
from interp.files import write_text
from interp.stats import Estimate

Data = dict[str, Any]
TITLES = {
    "tokens": "Which words of the prompt does it hang on?",
    "latents": "Which latents carry it?",
    "places": "Where in the model does it sit?",
    "components": "Which heads and MLPs write it?",
    "modules": "Which parts of the adapter make it?",
    "directions": "What does the change say?",
}


@dataclass(frozen=True)
class Section:
    """A part of the page: figures as plotly's JSON, or a table; or why it is absent."""

    id: str
    title: str
    see: str = ""
    figures: tuple[Data, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    note: str = ""
    absent: str = ""


def write_page(about: Mapping[str, Any], found: Data, path: str | Path) -> None:
    """Write the page, atomically. `about`: model, adapter, config and versions; `found` as `collect` gives it."""
    write_text(path, page_html(about, found))


def page_html(about: Mapping[str, Any], found: Data) -> str:
    """The page as text. Same data and same plotly, same text."""
    parts = sections(found)
    return render(
        "attribution.html.jinja",
        about=about,
        behavior=found["behavior"],
        sections=[part for part in parts if not part.absent],
        absent=[part for part in parts if part.absent],
        config=[
            (key, value if isinstance(value, str) else json.dumps(value)) for key, value in about["config"].items()
        ],
    )


def sections(found: Data) -> list[Section]:
    """All parts in reading order, those that can't be drawn with the reason."""
    draw = {
        "tokens": _tokens,
        "latents": _latents,
        "places": _places,
        "components": _components,
        "modules": _modules,
        "directions": _directions,
    }
    return [
        Section(name, TITLES[name], absent=found[name]["absent"].rstrip("."))
        if "absent" in found[name]
        else function(found)
        for name, function in draw.items()
    ]


def _tokens(found: Data) -> Section:
    data = found["tokens"]
    strips = {
        f"{n} {'tuned − base' if model == 'difference' else model}": (row["tokens"], values)
        for n, row in enumerate(data["questions"], 1)
        for model, values in row["left_out"].items()
    }
    return _drawn("tokens", sentences.tokens_say(data), token_strips(strips))


def _latents(found: Data) -> Section:
    data, models = found["latents"], found["behavior"]["models"]
    shown = data["rows"][: data["shown"]]
    figure = waterfall(
        {sentences.latent_name(row): row["exact"] for row in shown},
        start=models["base"]["estimate"],
        end=models["tuned"]["estimate"],
    )
    columns = ["latent", "about (AUROC)", "screened", "exact"]
    rows = [[str(row["latent"]), row["label"], signed(row["screened"]), signed(row["exact"])] for row in data["rows"]]
    if found["control"]:
        columns.append("exact, control's activation")
        for cells, row in zip(rows, data["rows"], strict=True):
            cells.append("–" if row["control"] is None else signed(row["control"]))
    note = "All else: the other latents, what the SAE leaves unexplained, later layers, and what latents do jointly."
    see = sentences.latents_say(data, found["behavior"], found["control"])
    return _drawn("latents", see, figure, columns=tuple(columns), rows=tuple(map(tuple, rows)), note=note)


def _places(found: Data) -> Section:
    data = found["places"]
    limit = max(abs(v) for name in ("brings", "takes") for row in data[name] for v in row) or None
    titles = {"brings": "The tuned model's stream put into the base", "takes": "The base's put into the tuned model"}
    figures = [
        position_map(data[name], data["columns"], data["layers"], title=title, limit=limit)
        for name, title in titles.items()
    ]
    return _drawn("places", sentences.places_say(data, found["behavior"]), *figures)


def _components(found: Data) -> Section:
    data = found["components"]
    bars = {row["component"]: {m: _estimate(row[m]) for m in ("base", "tuned")} for row in data["rows"]}
    note = f"{data['left_out']} questions are left out: their answers begin alike." if data["left_out"] else ""
    models = [model for model in ("tuned", "control") if model in data["rows"][0]["patched"]]
    columns = ("component", *(f"put into the base, {model}" for model in models))
    rows = tuple(
        (called(row["component"]), *(_within(row["patched"][model]) for model in models)) for row in data["rows"]
    )
    see = sentences.components_say(data, found["control"])
    return _drawn("components", see, component_bars(bars), columns=columns, rows=rows, note=note)


def _modules(found: Data) -> Section:
    data = found["modules"]
    names = _short([row["module"] for row in data["rows"]])
    rows = list(zip(names, data["rows"], strict=True))
    bars = latent_bars(
        {name: {kind: _estimate(row[kind]) for kind in ("suppressed", "induced")} for name, row in rows},
        title="suppressed: what taking it out costs; induced: what it alone brings (log-odds)",
    )
    cells = adapter_map({name: row["directions"] for name, row in rows})
    note = f"The {len(rows)} of {data['of']} modules with the largest estimate." if len(rows) < data["of"] else ""
    columns = (
        *("writes to the stream", "rank-1 share", "|cosine|", "95 % of random", "span", "95 % of random"),
        *("its first direction raises", "and lowers"),
    )
    near = tuple(
        (
            name,
            *(
                f"{row[key]:.2f}" if key in row else "–"
                for key in ("first_share", "cosine", "band", "span", "span_band")
            ),
            *(_listed(row[key]) for key in ("raises", "lowers")),
        )
        for name, row in rows
        if "raises" in row
    )
    return _drawn("modules", sentences.modules_say(data), bars, cells, columns=columns, rows=near, note=note)


def _directions(found: Data) -> Section:
    data = found["directions"]
    names = list(data["sets"])[:-1] if data["sets"] else []
    rows = []
    for row in data["rows"]:
        for how in ("lens", "patchscope"):
            said = {one["words"]: one for one in row["said"][how]} if names else {}
            shares = (f"{said[n]['share']:.2f} [{said[n]['low']:.2f} {said[n]['high']:.2f}]" for n in names)
            rows.append((row["what"], str(row["layer"]), how, *shares, _listed(row[how])))
    note = f"In brackets, 2.5 to 97.5 % of {data['random']} random directions." if names else ""
    columns = ("read", "layer", "by", *names, "words")
    return _drawn("directions", sentences.directions_say(data), columns=columns, rows=tuple(rows), note=note)


def _drawn(id: str, see: str, *figures: Any, **parts: Any) -> Section:
    return Section(id, TITLES[id], see, tuple(json.loads(figure.to_json()) for figure in figures), **parts)


def _estimate(row: Data) -> Estimate:
    return Estimate(row["estimate"], row["low"], row["high"], row["n"])


def _within(row: Data | None) -> str:
    """An estimate with its interval; a dash where there is none (the embedding, which isn't patched)."""
    return "–" if row is None else f"{signed(row['estimate'])} [{signed(row['low'])} {signed(row['high'])}]"


def _listed(words: list[str]) -> str:
    return " · ".join(word.strip() or "␣" for word in words)


def _short(modules: list[str]) -> list[str]:
    """Module paths without what all of them begin with."""
    parts = [name.split(".") for name in modules]
    shared = 0
    while all(len(p) > shared + 1 for p in parts) and len({p[shared] for p in parts}) == 1:
        shared += 1
    return [".".join(p[shared:]) for p in parts]
