"""Write a page of latents: one HTML file that opens from disk, fetches nothing and lets no text of it run.

The table's columns stand in the file as JSON, details as chunks of deflated JSON in base64, which the page unpacks when
a latent is opened; the script stands before the chunks, so that the table is there before they have been read. Texts
reach the document as text nodes only (`templates/text.js`); a content security policy with the hashes of the page's
one script and one style is the second lock, trusted types the third.
"""

import base64
import hashlib
import json
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from analyses.page import TEMPLATES as REPORT_TEMPLATES
from analyses.page import escaping, inert
from analyses.pages.checks import check_detail, check_rows
from analyses.pages.data import Detail, Example, LatentRow, Page
from interp.files import write_text

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("text.js", "blocks.js", "table.js", "latent.js", "main.js")  # one script, in this order
CHUNK = 128  # latents a chunk: some 100 KB, unpacked in a few milliseconds
NAMED = 6  # tokens a row names for what its latent is active on, and for what it promotes


def write_page(page: Page, path: str | Path) -> None:
    """Write the page, atomically. Same page and same zlib, same bytes; AnachronError as in `checks`."""
    write_text(path, page_html(page))


def page_html(page: Page) -> str:
    """The page as text: about 250 bytes a latent for the table, and a few hundred a latent's example."""
    from markupsafe import Markup

    check_rows(page)
    rows = sorted(page.rows, key=lambda row: row.latent)
    tokens: dict[int, tuple[list[str], list[str]]] = {}
    chunks = [_packed(chunk) for chunk in _chunks(page, rows, tokens)]
    style = _read(REPORT_TEMPLATES / "report.css") + _read(TEMPLATES / "latents.css")
    script = "".join(_read(TEMPLATES / name) for name in SCRIPTS)
    return (
        escaping(TEMPLATES)
        .get_template("latents.html.jinja")
        .render(
            title=_visible(page.title),
            facts=[(_visible(name), _visible(value)) for name, value in page.facts.items()],
            count=len(rows),
            table=Markup(data_block(_table(page, rows, tokens))),
            chunks=[Markup(chunk) for chunk in chunks],
            style=Markup(style),
            script=Markup(script),
            policy=_policy(script, style),
        )
    )


def data_block(value: Any) -> str:
    """JSON in ASCII that may stand inside a script element: no text in it can end the element, nor be no text."""
    return inert(_json(value))


def _table(page: Page, rows: list[LatentRow], tokens: dict[int, tuple[list[str], list[str]]]) -> dict[str, Any]:
    """The table by column; labels, groups and their like as indices into lists of their texts."""
    kinds, states, groups = _Texts(), _Texts(), _Texts()
    columns: dict[str, Any] = {
        "latent": [row.latent for row in rows],
        "mean": {name: [_short(row.mean[name]) for row in rows] for name in page.models},
        "frequency": {name: [_short(row.frequency[name]) for row in rows] for name in page.models},
        "contrast": {
            name: {
                **{
                    part: [_short(getattr(row.contrasts[name], part)) for row in rows]
                    for part in ("estimate", "low", "high", "q")
                },
                # before rounding, so that a q just above the bound isn't rounded onto it
                "found": [int(row.contrasts[name].q <= page.significance) for row in rows],
            }
            for name in page.contrasts
        },
        "labels": [
            [[kinds.index(label.kind), states.index(label.state), _short(label.auroc)] for label in row.labels]
            for row in rows
        ],
        "group": [groups.index(row.group) for row in rows],
        "description": [row.description for row in rows] if any(row.description for row in rows) else [],
        "active": [tokens[row.latent][0] if row.latent in tokens else [] for row in rows],
        "promoted": [tokens[row.latent][1] if row.latent in tokens else [] for row in rows],
        "chunk": _chunk_numbers(rows, tokens),
    }
    return {
        "models": list(page.models),
        "contrasts": list(page.contrasts),
        "kinds": kinds.texts,
        "states": states.texts,
        "groups": groups.texts,
        "coactive": page.coactive,
        "describer": page.describer,
        "significance": page.significance,
        "columns": columns,
    }


def _chunks(
    page: Page, rows: list[LatentRow], tokens: dict[int, tuple[list[str], list[str]]]
) -> Iterator[dict[str, Any]]:
    """Details by latent, `CHUNK` of them at a time. Fills `tokens`: what each is active on and what it promotes."""
    latents = {row.latent for row in rows}
    chunk: dict[str, Any] = {}
    for row in rows:
        if row.latent not in page.details:
            continue
        detail = page.details[row.latent]
        check_detail(row.latent, detail, latents)
        tokens[row.latent] = (
            _first_few(_peak(example) for example in detail.examples),
            _first_few(token for token, _ in detail.promoted),
        )
        chunk[str(row.latent)] = _plain(detail)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = {}
    if chunk:
        yield chunk


def _chunk_numbers(rows: list[LatentRow], tokens: dict[int, Any]) -> list[int]:
    """The chunk in which each row's detail lies, -1 for a row without one."""
    with_detail = {latent: i // CHUNK for i, latent in enumerate(tokens)}
    return [with_detail[row.latent] if row.latent in with_detail else -1 for row in rows]


def _plain(detail: Detail) -> dict[str, Any]:
    """A detail as JSON; activations as flat pairs of position and value, where they aren't zero."""
    return {
        "examples": [
            {
                "tokens": example.tokens,
                "active": [part for i, value in enumerate(example.values) if value for part in (i, _short(value))],
                "source": example.source,
            }
            for example in detail.examples
        ],
        "histogram": detail.histogram
        and {"edges": [_short(edge) for edge in detail.histogram.edges], "counts": detail.histogram.counts},
        **{
            name: [(what, _short(value)) for what, value in getattr(detail, name)]
            for name in ("promoted", "suppressed", "coactive")
        },
    }


class _Texts:
    """Texts, each kept once, in the order in which they come."""

    def __init__(self) -> None:
        self._indices: dict[str, int] = {}

    def index(self, text: str) -> int:
        return self._indices.setdefault(text, len(self._indices))

    @property
    def texts(self) -> list[str]:
        return list(self._indices)


def _peak(example: Example) -> str:
    return example.tokens[max(range(len(example.values)), key=example.values.__getitem__)]


def _first_few(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))[:NAMED]


def _packed(value: Any) -> str:
    return base64.b64encode(zlib.compress(_json(value).encode("ascii"), 6)).decode("ascii")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _short(value: float) -> float:
    """Four digits: what the page shows, and more than the data carry."""
    return float(f"{value:.4g}")


def _visible(text: str) -> str:
    """The text with its invisible characters named, as `visible` of text.js does; lone surrogates can't be written."""
    return "".join(
        f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text
    )


def _policy(script: str, style: str) -> str:
    """A Content-Security-Policy under which one script and one style count, and nothing is fetched."""
    hashes = {
        kind: base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()
        for kind, text in (("script", script), ("style", style))
    }
    return (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'; "
        "img-src data:; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
