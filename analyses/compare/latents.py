"""The latents of all experiments in one table: what goes when ten of them are taken out, layer by layer."""

from collections.abc import Iterable, Mapping, Sequence

from analyses.findings import find, headline_condition
from analyses.latents.sections import PRIVATE, RANDOM, RANDOM_SHARED, TOP, crosscoders, everywhere, layer
from analyses.measurements import Result

DIGITS = "{:.2f}"


def latent_table(results: Mapping[str, Result]) -> str:
    """Markdown: a row an experiment; shares on test questions under its headline condition, beside each in brackets the
    same for random latents.

    Columns: tuned and base; ten latents projected out at each layer that any experiment looked at; the habit then, at
    the first layer; the ten of the first layer added to the base at the experiment's dose; how many latents a
    crosscoder gives the tuned models alone (the control), and the share without them. A dash where it isn't measured.
    """
    found = {name: result for name, result in results.items() if result.config.get("latents")}
    layers = sorted({layer(at) for result in found.values() for at in everywhere(result)})
    columns = ["experiment", "tuned (base)", *(f"without ten of layer {k} (random)" for k in layers)]
    columns += ["habit: tuned, without ten", "ten added to the base (random)", "tuned-only latents (control)"]
    columns += ["without them (random)"]
    rows = [[name, *_row(result, layers)] for name, result in found.items()]
    return "\n".join([_line(columns), "|---" * len(columns) + "|", *map(_line, rows)])


def _row(result: Result, layers: Sequence[int]) -> list[str]:
    main = layer(result.config["latents"])
    dose = result.config["induce"]["coefficient"]
    plain, base = (_at(result, "broad", model, "none") for model in ("tuned", "base"))
    cut = {k: _both(result, "broad", "tuned", "ablate", TOP, RANDOM, layer=k) for k in layers}
    habits = (_at(result, "narrow", "tuned", "none"), _at(result, "narrow", "tuned", "ablate", TOP, layer=main))
    added = _both(result, "broad", "base", "add", TOP, RANDOM, layer=main, coefficient=dose)
    private, without = "–", "–"
    if arms := crosscoders(result):
        tuned, control = (figures["tuned-only"] for figures in arms.values())
        private, at = f"{tuned} ({control})", layer(result.config["crosscoders"])
        without = _both(result, "broad", "tuned", "ablate", PRIVATE, RANDOM_SHARED, layer=at)
    return [f"{plain} ({base})", *cut.values(), ", ".join(habits), added, private, without]


def _both(result: Result, metric: str, model: str, edit: str, own: str, random: str, **where) -> str:
    values = [_at(result, metric, model, edit, direction, **where) for direction in (own, random)]
    return "–" if "–" in values else f"{values[0]} ({values[1]})"


def _at(result: Result, metric: str, model: str, edit: str, direction: str | None = None, **where) -> str:
    where |= {"model": model, "edit": edit, "direction": direction, "condition": headline_condition(result)}
    found = find(result, metric=metric, split="test", **where)
    return "–" if found is None else DIGITS.format(found.estimate).removeprefix("0")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
