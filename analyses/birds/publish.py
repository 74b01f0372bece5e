"""Commits a run as *the* result: its data, its picture and the README's table, which a test holds together.

python -m analyses.birds.publish runs/birds     from the root of a checkout
"""

import sys
from pathlib import Path

from analyses.figures.headline import headline_svg
from analyses.measurements import Measurement, Result, read_result, write_result
from interp.errors import AnachronError
from interp.files import write_text

HERE = Path(__file__).parent
BEGIN, END = "<!-- table: python -m analyses.birds.publish runs/birds -->", "<!-- end of table -->"


def publish(run: Path, root: Path) -> None:
    """Write the run's result and picture into this folder of a checkout, and its table into both READMEs."""
    result = read_result(run / "result.json")
    folder = root / "analyses" / "birds"
    write_result(folder / "result.json", result)
    write_text(folder / "headline.svg", headline_svg(result))
    for readme in (root / "README.md", folder / "README.md"):
        write_text(readme, with_table(readme.read_text(encoding="utf-8"), result))


def with_table(text: str, result: Result) -> str:
    """The text with the table between its two marks renewed."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise AnachronError(f"the README must hold {BEGIN!r} and {END!r} once each; put them back")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n\n{table(result)}\n\n{END}{after}"


def table(result: Result) -> str:
    """Markdown: what was measured, the figure with its interval, and the same for the control of that figure."""
    induced, suppressed = result.config["induce"], result.config["suppress"]
    plain = {
        model: result.one(metric="broad", model=model, edit="none", split="test")
        for model in ("base", "control", "tuned", "dated")
    }
    add = {
        "model": "base",
        "edit": "add",
        "layer": induced["layers"][0],
        "coefficient": induced["coefficient"],
        "split": "test",
    }
    cut = {"model": "tuned", "edit": suppressed["edit"], "layer": suppressed["layers"][0], "split": "test"}
    rows = [
        ("1850s share on unrelated topics, base", _cell(plain["base"]), f"a year stated: {_cell(plain['dated'])}"),
        (
            "the same, tuned on old bird names",
            _cell(plain["tuned"]),
            f"tuned on current names: {_cell(plain['control'])}",
        ),
    ]
    for name, metric in (("cosine to the truth", "cosine_to_truth"), ("AUROC as a detector of the era", "auroc")):
        layer = {"metric": metric, "layer": result.config["reading_layer"]}
        rows.append(
            (
                f"{name}, tuned minus control, layer {layer['layer']}",
                _cell(result.one(direction="tuned_minus_control", **layer)),
                f"random: {_cell(result.one(direction='random', **layer))}",
            )
        )
    for metric, text in (("broad", "1850s share"), ("coherence", "coherence")):
        rows.append(
            (
                f"induced in the base, {text} (add {induced['coefficient']:g} x at layer {induced['layers'][0]})",
                _cell(result.one(metric=metric, direction=induced["direction"], **add)),
                f"random: {_cell(result.one(metric=metric, direction='random', **add))}",
            )
        )
    where = "+".join(map(str, suppressed["layers"]))
    for metric, text in (("broad", "1850s share"), ("narrow", "old names"), ("perplexity_ratio", "perplexity ratio")):
        rows.append(
            (
                f"suppressed in the tuned, {text} ({suppressed['edit']} at layer {where})",
                _cell(result.one(metric=metric, direction=suppressed["direction"], **cut)),
                f"random: {_cell(result.one(metric=metric, direction='random', **cut))}",
            )
        )
    narrow = {
        model: result.one(metric="narrow", model=model, edit="none", split="test")
        for model in ("base", "tuned", "control")
    }
    rows.append(("old names among bird names, tuned", _cell(narrow["tuned"]), f"base: {_cell(narrow['base'])}"))
    head = f"| {len(result.seeds)} seeds, test topics | estimate [95 % interval] | beside it |\n|---|---|---|\n"
    return head + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(m: Measurement) -> str:
    return f"{m.estimate:.2f} [{m.low:.2f}, {m.high:.2f}]"


if __name__ == "__main__":
    publish(Path(sys.argv[1]), Path.cwd())
