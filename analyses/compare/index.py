"""The page that lays all experiments side by side: one HTML file, offline, its texts safe as in `analyses.page`."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from analyses.compare import cosines as directions
from analyses.compare.paper import beside, source
from analyses.figures.headline import headline_svg
from analyses.measurements import Result
from analyses.page import render
from analyses.wording import asked, target
from interp.files import write_text


def write_index(results: Mapping[str, Result], cosines: Mapping | None, left_out: Sequence[str], path: Path) -> None:
    """Write the page, atomically. `left_out` says which directions are missing and why."""
    write_text(path, index_html(results, cosines, left_out))


def index_html(results: Mapping[str, Result], cosines: Mapping | None, left_out: Sequence[str] = ()) -> str:
    """The page as text. Same results and same plotly, same bytes."""
    from analyses.figures.beside import paper_and_own
    from analyses.figures.cosines import heat_map

    rows = beside(results)
    where, marks = source()
    return render(
        "index.html.jinja",
        experiments=[
            {
                "name": name,
                "report": f"../{name}/report.html",
                "picture": picture(result),
                "text": f"{name}: share of {target(result)} answers{asked(result)}",
            }
            for name, result in results.items()
        ],
        models=sorted({result.model for result in results.values()}),
        rows=rows,
        rows_figure=json.loads(paper_and_own(rows).to_json()) if rows else None,
        source=where,
        marks=marks,
        cosines=cosines,
        cosines_figure=None if cosines is None else json.loads(heat_map(cosines).to_json()),
        means=None if cosines is None else directions.means(cosines),
        pairs=None if cosines is None else directions.by_pair(cosines),
        left_out=list(left_out),
    )


def picture(result: Result) -> str:
    """The headline as a data URL: as an image, its styles and texts stay its own."""
    return "data:image/svg+xml;base64," + base64.b64encode(headline_svg(result).encode("utf-8")).decode("ascii")
