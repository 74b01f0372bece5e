"""Commits parts of "why broad?" as *the* findings: their data, a picture each, and the README's table of findings.

    python -m analyses.publish explain runs/explain

A test holds the three together.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analyses.explain.findings import Finding, Part, read_part
from analyses.explain.parts import PARTS
from analyses.figures.verdicts import Line, verdicts_svg
from analyses.publish import with_table
from interp.errors import AnachronError
from interp.files import read_json, write_text

NAME = "explain"
LARGEST = 600_000  # bytes of a committed file
DIGITS = 5  # significant ones of a committed number


def publish_parts(run: Path, root: Path) -> None:
    """Write the parts found in `run` into `analyses/explain` of a checkout, and renew the table of all that lie there.

    Errors: AnachronError if there are none, a file isn't of its part, or one is too large even without its figures.
    """
    folder = root / "analyses" / NAME
    names = [name for name in PARTS if (run / f"{name}.json").exists()]
    if not names:
        raise AnachronError(f"{run}: none of {', '.join(f'{name}.json' for name in PARTS)}; give a folder of a run")
    for name in names:
        if (found := read_part(run / f"{name}.json").name) != name:
            raise AnachronError(f"{run / name}.json is of {found}, not of {name}; give the files their own names")
    texts = {name: compact(run / f"{name}.json") for name in names}
    readme = folder / "README.md"
    before = readme.read_text(encoding="utf-8")
    with_table(before, NAME, "")  # complains before anything is written
    for name, text in texts.items():
        write_text(folder / f"{name}.json", text)
        write_text(folder / f"{name}.svg", picture(read_part(folder / f"{name}.json")))
    write_text(readme, with_table(before, NAME, table(committed(folder))))


def committed(folder: Path) -> list[Part]:
    """The parts that are committed, in the catalogue's order."""
    return [read_part(path) for name in PARTS if (path := folder / f"{name}.json").exists()]


def compact(path: Path) -> str:
    """A part's JSON with rounded numbers on few lines; without figures where it would be larger than `LARGEST`."""
    data = _rounded(read_json(path))
    for kept in (data, data | {"findings": [finding | {"figure": {}} for finding in data["findings"]]}):
        text = _lines(kept)
        if len(text.encode("utf-8")) < LARGEST:
            return text
    raise AnachronError(f"{path}: {len(text):,} bytes without its figures; keep fewer rows, {LARGEST:,} are the most")


def picture(part: Part) -> str:
    """The part's findings as SVG text."""
    lines = [Line(f.name, f.verdict, f.unit, f.estimate) for f in part.findings]
    return verdicts_svg(f"Why broad? {part.name.capitalize()}", lines)


def table(parts: Sequence[Part]) -> str:
    """Markdown: a row a finding."""
    head = "| part | finding | predicted | measured | estimate [95 % interval] | verdict |\n|---|---|---|---|---|---|"
    return "\n".join([head, *(_row(part, finding) for part in parts for finding in part.findings)])


def _row(part: Part, finding: Finding) -> str:
    e = finding.estimate
    estimate = f"{e.estimate:.2f} [{e.low:.2f}, {e.high:.2f}] {finding.unit}, n = {e.n} {finding.over}"
    cells = (part.name, finding.name, finding.prediction, finding.claim, estimate, f"**{finding.verdict}**")
    return f"| {' | '.join(' '.join(cell.replace('|', '∣').split()) for cell in cells)} |"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def _lines(data: dict[str, Any]) -> str:
    """JSON with one line a field, a finding or a row, so that changes can be read line by line."""

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    fields = [
        f'"{key}":[\n' + ",\n".join(map(text, value)) + "\n]" if isinstance(value, list) else f'"{key}":{text(value)}'
        for key, value in data.items()
    ]
    return "{\n" + ",\n".join(fields) + "\n}\n"
