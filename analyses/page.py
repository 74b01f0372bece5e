"""One HTML page with everything in it: it opens offline, fetches nothing, and no text in it can run.

Texts of a result are untrusted. They reach a page in two ways only: through Jinja with autoescape, and as JSON data
blocks in which `<`, `>` and `&` are escaped, so that no string can close the block. A content security policy that
names the page's own two scripts by hash is the second lock.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyses import captions
from analyses.figures.style import MODEL_COLORS, signed, words

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **context: Any) -> str:
    """The page: about 5 MB, nearly all of it plotly.js. Same context and same plotly, same text."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    scripts = {"plotly": get_plotlyjs(), "page": _template("report.js")}
    environment = escaping(TEMPLATES)
    environment.filters |= {
        "percent": captions.percent,
        "within": captions.within,
        "words": words,
        "signed": signed,
        "data": lambda value: Markup(data_block(value)),
    }
    return environment.get_template(template).render(
        **context,
        colors=MODEL_COLORS,
        style=Markup(_template("report.css")),
        scripts={name: Markup(text) for name, text in scripts.items()},
        policy=content_policy(scripts),
    )


def escaping(templates: Path) -> "Environment":
    """Jinja over a folder of templates: every text is escaped, and a name that nothing fills is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data_block(value: Any) -> str:
    """JSON that may stand inside a script element: no string in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return inert(text)


def inert(text: str) -> str:
    """JSON in which no string can end a script element or open a comment."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def content_policy(scripts: Mapping[str, str]) -> str:
    """A Content-Security-Policy under which only these scripts run and nothing is fetched."""
    hashes = (base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode() for text in scripts.values())
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
