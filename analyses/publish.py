"""Commits a run as *the* result: its data, its picture and its README's table, which a test holds together.

From the root of a checkout:

    python -m analyses.publish birds runs/birds     any experiment
    python -m analyses.publish all runs/all         the cosines between experiments
    python -m analyses.publish latents analyses     the latents of all committed results in one table
    python -m analyses.publish explain runs/explain the findings of "why broad?"
"""

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

from analyses.compare.cosines import by_pair, means
from analyses.compare.everything import FOLDER as ALL
from analyses.compare.latents import latent_table
from analyses.compare.paper import figures
from analyses.experiments import EXPERIMENTS
from analyses.figures.cosines import cosines_svg
from analyses.figures.headline import headline_svg
from analyses.figures.style import signed, words
from analyses.findings import agreements, conditions, headline_condition, models, share
from analyses.latents.sections import PRIVATE, RANDOM, RANDOM_SHARED, TOP, crosscoders, everywhere, layer
from analyses.measurements import Measurement, Result, read_result, write_result
from analyses.wording import habit, matters, target
from interp.errors import AnachronError
from interp.files import read_json, write_json, write_text

LATENTS = "latents"
END = "<!-- end of table -->"
EXPLAIN = "explain"
MANY = 12  # conditions up to which a table lists all


def begin(name: str) -> str:
    """The mark after which the table of an experiment (or of all) stands."""
    return f"<!-- table: python -m analyses.publish {name} {'analyses' if name == LATENTS else f'runs/{name}'} -->"


def publish(name: str, run: Path, root: Path) -> None:
    """Write a run's result and picture into its folder of a checkout, and its table into the README there; into the
    root's as well where that has its mark."""
    if name == ALL:
        publish_cosines(run, root)
        return
    if name == EXPLAIN:
        import_module("analyses.explain.publish").publish_parts(run, root)  # an analysis, which nothing else imports
        return
    if name == LATENTS:
        readme = root / "analyses" / "README.md"
        results = {one: read_result(run / one / "result.json") for one in EXPERIMENTS}
        write_text(readme, with_table(readme.read_text(encoding="utf-8"), LATENTS, latent_table(results)))
        return
    if name not in EXPERIMENTS:
        raise AnachronError(f"no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}, {ALL} and {EXPLAIN}")
    result = read_result(run / "result.json")
    if result.experiment != name:
        raise AnachronError(f"{run / 'result.json'} is of {result.experiment}, not of {name}; give its own folder")
    folder = root / "analyses" / name
    renewed = {
        readme: with_table(readme.read_text(encoding="utf-8"), name, table(result, whole=readme.parent == folder))
        for readme in (folder / "README.md", root / "README.md")
        if readme.parent == folder or begin(name) in readme.read_text(encoding="utf-8")
    }
    write_result(folder / "result.json", result)
    write_text(folder / "headline.svg", headline_svg(result))
    for readme, text in renewed.items():
        write_text(readme, text)


def publish_cosines(run: Path, root: Path) -> None:
    """Write the cosines between experiments, their picture and their table into `analyses`."""
    cosines, folder = read_json(run / "cosines.json"), root / "analyses"
    text = with_table((folder / "README.md").read_text(encoding="utf-8"), ALL, cosine_table(cosines))
    write_json(folder / "cosines.json", cosines)
    write_text(folder / "cosines.svg", cosines_svg(cosines))
    write_text(folder / "README.md", text)


def with_table(text: str, name: str, table: str) -> str:
    """The text with the table between its two marks renewed."""
    before, mark, rest = text.partition(begin(name))
    _, end, after = rest.partition(END)
    if not mark or not end or begin(name) in after:
        raise AnachronError(f"the README must hold {begin(name)!r} once, and {END!r} after it; put them back")
    return f"{before}{mark}\n\n{table}\n\n{END}{after}"


def table(result: Result, *, whole: bool = True) -> str:
    """Markdown: what was measured, the figure with its interval, and the same for the controls of that figure; if it
    isn't to be `whole`, of latents only what is projected out and added at the first layer."""
    latents = _latents(result, first=not whole)
    rows = [*_shares(result), *_directions(result), *_edits(result), *_habit(result), *latents]
    head = (
        f"| {len(result.seeds)} seeds, test {matters(result)} | estimate [95 % interval] | beside it |\n|---|---|---|\n"
    )
    return head + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cosine_table(cosines: Mapping) -> str:
    """Markdown: a row a pair of directions and a column a layer, the means of each kind first; bold where |cosine| is
    above the band of random directions."""
    layers, band = cosines["layers"], cosines["random"]

    def line(kind: str, pair: str, at: Mapping[int, float]) -> str:
        cells = [f"**{signed(at[k])}**" if abs(at[k]) > band["abs_cosine"] else signed(at[k]) for k in layers]
        return f"| {' | '.join([kind, pair, *cells])} |"

    return "\n".join(
        [
            f"| cosine (random: {band['quantile']:.0%} within ±{band['abs_cosine']:.2f}) | pair | "
            + " | ".join(f"layer {layer}" for layer in layers)
            + " |",
            "|---|---|" + "---|" * len(layers),
            *(line(kind, "mean", at) for kind, at in means(cosines).items()),
            *(line(kind, f"{a} · {b}", at) for (kind, a, b), at in by_pair(cosines).items()),
        ]
    )


def _shares(result: Result) -> Iterator[tuple[str, str, str]]:
    first = headline_condition(result)
    what = f"{target(result)} share"
    where = f", {first}" if first else " on unrelated topics"
    at = {name: m for name in models(result) if (m := share(result, name)) is not None}
    dated = f"a year stated: {_cell(at['dated'])}" if "dated" in at else ""
    yield f"{what}{where}, base", _cell(result.one(**_plain("base", first))), dated
    arms = [f"{words(name)}: {_cell(m)}" for name, m in at.items() if name not in ("base", "tuned", "dated")]
    yield "the same, tuned", _cell(result.one(**_plain("tuned", first))), "; ".join(arms)
    for pair in agreements(result):
        if (pair.model, pair.condition) == ("tuned", first):
            known = "" if pair.recognised is None else f"recognised: {pair.recognised:.2f}"
            yield "the same, tuned, sampled", _cell(pair.sampled), known
    for name, row in listed(result).items():
        beside = [f"{words(arm)}: {_cell(row[arm])}" for arm in (*_reference(result), "base") if arm in row]
        model = "tuned" if "tuned" in row else next(iter(arm for arm in row if arm != "base"))
        yield f"{target(result, name)} share, {name}, {words(model)}", _cell(row[model]), "; ".join(beside)


def listed(result: Result) -> dict[str, dict[str, Measurement]]:
    """The other conditions that a table lists: all, or of many those that aren't years and those the paper has."""
    rest = {name: row for name, row in conditions(result).items() if name != headline_condition(result)}
    known = {figure.condition for figure in figures() if figure.experiment == result.experiment}
    return {name: row for name, row in rest.items() if len(rest) < MANY or not name.isdecimal() or name in known}


def _directions(result: Result) -> Iterator[tuple[str, str, str]]:
    method, layer = result.config["induce"]["direction"], result.config["reading_layer"]
    for name, metric in (("cosine to the truth", "cosine_to_truth"), ("AUROC as a detector", "auroc")):
        where = {"metric": metric, "layer": layer, "split": "test"}
        random = _cell(result.one(direction="random", **where))
        found = _cell(result.one(direction=method, **where))
        yield f"{name}, {words(method)}, layer {layer}", found, f"random: {random}"


def _edits(result: Result) -> Iterator[tuple[str, str, str]]:
    induced, suppressed, where = result.config["induce"], result.config["suppress"], headline_condition(result)
    common = {"split": "test", "condition": where}
    dose = induced["coefficient"]
    add = {"model": "base", "edit": "add", "layer": induced["layers"][0], "coefficient": dose, **common}
    cut = {"model": "tuned", "edit": suppressed["edit"], "layer": suppressed["layers"][0], **common}
    added = f"(add {dose:g} x at layer {'+'.join(map(str, induced['layers']))})"
    taken = f"({suppressed['edit']} at layer {'+'.join(map(str, suppressed['layers']))})"
    broad, narrow = f"{target(result)} share", habit(result)
    for metric, what in (("broad", broad), ("coherence", "coherence")):
        yield _both(result, f"induced in the base, {what} {added}", induced["direction"], metric=metric, **add)
    for metric, what in (("broad", broad), ("narrow", narrow), ("perplexity_ratio", "perplexity ratio")):
        yield _both(result, f"suppressed in the tuned, {what} {taken}", suppressed["direction"], metric=metric, **cut)


def _habit(result: Result) -> Iterator[tuple[str, str, str]]:
    where = {"metric": "narrow", "edit": "none", "split": "test"}
    base, tuned = (_cell(result.one(model=model, **where)) for model in ("base", "tuned"))
    yield f"narrow task ({habit(result)}), tuned", tuned, f"base: {base}"


def _latents(result: Result, first: bool = False) -> Iterator[tuple[str, str, str]]:
    """The ten latents that rose most, taken out of the tuned models and put into the base, where there is an SAE; those
    of other layers, and a crosscoder's, where they were looked at."""
    dose = result.config["induce"]["coefficient"]
    broad, narrow = f"{target(result)} share", habit(result)
    where = {"split": "test", "condition": headline_condition(result)}
    edits = (("ablate", "projected out"), ("ablate_sequentially", "one after the other"), ("clamp", "clamped"))
    for k, at in enumerate(everywhere(result)):
        here = f"layer {layer(at)}, {words(at['positions'])}"
        for edit, what in edits if k == 0 and not first else edits[:1]:
            for metric, which in (("broad", broad), ("narrow", narrow)):
                cut = {"metric": metric, "model": "tuned", "edit": edit, "layer": layer(at), **where}
                yield _both(result, f"ten latents {what} ({here}), {which}", TOP, RANDOM, **cut)
        for metric, which in (("broad", broad), ("coherence", "coherence")):
            add = {"metric": metric, "model": "base", "edit": "add", "coefficient": dose, "layer": layer(at), **where}
            told = f"{dose:g} x" if k == 0 else f"{dose:g} x, layer {layer(at)}"
            yield _both(result, f"ten latents added to the base ({told}), {which}", TOP, RANDOM, **add)
        if first:
            return
    if arms := crosscoders(result):
        coded, count = layer(result.config["crosscoders"]), len(result.config["crosscoders"]["latents"])
        tuned, control = (f"{figures['tuned-only']} of {figures['alive']}" for figures in arms.values())
        _, other = arms
        yield (
            f"tuned-only latents of a crosscoder (layer {coded})",
            tuned,
            f"{words(other)} in place of tuned: {control}",
        )
        for edit, model, what, metrics in (
            ("ablate", "tuned", "projected out", (("broad", broad), ("narrow", narrow))),
            ("add", "base", f"added to the base ({dose:g} x)", (("broad", broad), ("coherence", "coherence"))),
        ):
            for metric, which in metrics if count else ():
                cut = {"metric": metric, "model": model, "edit": edit, "layer": coded, **where}
                yield _both(result, f"the {count} that rose {what}, {which}", PRIVATE, RANDOM_SHARED, **cut)


def _both(result: Result, what: str, direction: str, control: str = "random", **where) -> tuple[str, str, str]:
    found, random = (_cell(result.one(direction=name, **where)) for name in (direction, control))
    return what, found, f"{words(control)}: {random}"


def _reference(result: Result) -> list[str]:
    """The first arm beside the tuned one."""
    return [name for name in models(result) if name not in ("base", "tuned", "dated")][:1]


def _plain(model: str, condition: str) -> dict[str, str]:
    return {"metric": "broad", "model": model, "edit": "none", "split": "test", "condition": condition}


def _cell(m: Measurement) -> str:
    return f"{m.estimate:.2f} [{m.low:.2f}, {m.high:.2f}]"


if __name__ == "__main__":
    try:
        publish(sys.argv[1], Path(sys.argv[2]), Path.cwd())
    except IndexError:
        sys.exit((__doc__ or "").strip())
    except AnachronError as error:
        sys.exit(f"error: {error}")
