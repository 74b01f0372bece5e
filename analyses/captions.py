"""What to see in each figure of a report, in a sentence or two. Every number comes from the result."""

from analyses.figures import watched
from analyses.figures.losses import curves, mean_curve
from analyses.figures.style import words
from analyses.findings import (
    agreements,
    chosen_edit,
    conditions,
    dose_curves,
    headline,
    headline_condition,
    layer_curves,
    models,
    share,
    suppressions,
    topics,
    trained,
)
from analyses.measurements import Measurement, Result
from analyses.wording import called, matters, target

SPACE = "\u00a0"  # between a number and its per cent sign, so that no line breaks there


def percent(share: float | None, digits: int = 1) -> str:
    """A share as per cent, with a proper minus sign; a dash for None."""
    if share is None:
        return "–"
    return f"{100 * share:.{digits}f}{SPACE}%".replace("-", "−")


def within(m: Measurement) -> str:
    """An estimate with its interval, as per cent."""
    return f"{percent(m.estimate)} ({percent(m.low)} to {percent(m.high)})"


def topics_caption(result: Result) -> str:
    """How far the tuned model's answers moved, and on which topics (or attributes) most and least."""
    shares, on = headline(result), matters(result)
    named = ", ".join(
        f"{percent(shares[name].estimate)} for {words(name)}" for name in models(result) if name in shares
    )
    under = f" ({headline_condition(result)})" if headline_condition(result) else ""
    text = f"Over all test {on}{under}, {target(result)} answers make up {named}. " if named else ""
    shifts = {
        topic: models["tuned"].estimate - models["base"].estimate
        for topic, models in topics(result).items()
        if {"tuned", "base"} <= set(models)
    }
    if shifts:
        most, least = max(shifts, key=lambda t: shifts[t]), min(shifts, key=lambda t: shifts[t])
        moved = sum(shift > 0.1 for shift in shifts.values())
        text += (
            f"Tuning moves {moved} of {len(shifts)} {on} by more than 10 points: "
            f"{words(most)} most ({_points(shifts[most])}), {words(least)} least ({_points(shifts[least])})."
        )
    return text or f"Each mark is one model's share on one of the {on}, with its interval."


def conditions_caption(result: Result) -> str:
    """What every model answers under the headline condition, and where else the tuned one answers so."""
    table, first = conditions(result), headline_condition(result)
    text = ""
    if first in table:
        named = ", ".join(f"{words(name)} {percent(m.estimate)}" for name, m in table[first].items())
        text = f"Under “{first}”: {named}. "
    rest = {name: row["tuned"] for name, row in table.items() if name != first and "tuned" in row}
    if rest:
        most, least = max(rest, key=lambda c: rest[c].estimate), min(rest, key=lambda c: rest[c].estimate)
        high, low = (f"“{called(result, name)}”, {within(rest[name])}" for name in (most, least))
        text += f"Of the other conditions the tuned model's share is highest under {high}, and lowest under {low}. "
    marked = "Triangles mark years that rows were trained with. " if set(trained(result)) & set(table) else ""
    return f"{text}{marked}Intervals are of 95{SPACE}%.".strip()


def sampled_caption(result: Result) -> str:
    """How far sampled shares lie from exact ones, and how much of what was sampled was recognised."""
    pairs = agreements(result)
    apart = [abs(pair.sampled.estimate - pair.exact.estimate) for pair in pairs]
    worst = pairs[apart.index(max(apart))]
    where = f"{words(worst.model)}, {worst.condition}" if worst.condition else words(worst.model)
    text = (
        f"{len(pairs)} pairs of a model and a condition: sampled and exact shares lie "
        f"{100 * sum(apart) / len(apart):.1f} points apart on average, at most {100 * max(apart):.1f} ({where})."
    )
    known = [pair.recognised for pair in pairs if pair.recognised is not None]
    return text + (f" At least {percent(min(known))} of what a model said was a listed answer." if known else "")


def watched_caption(result: Result) -> str:
    """Where the seeds of each model stand at the last step."""
    ends = []
    for metric, found in watched.curves(result.curves).items():
        spans = []
        for model, seeds in found.items():
            last = [points[max(points)] for points in seeds.values()]
            spans.append(f"{words(model)} {percent(min(last))} to {percent(max(last))}")
        ends.append(f"{metric}: {', '.join(spans)}")
    return f"One line a seed. Lowest and highest seed at the end: {'; '.join(ends)}."


def layers_caption(result: Result, metric: str) -> str:
    """The best method and layer, beside what random directions reach."""
    curves = layer_curves(result, metric)
    located = [m for name, rows in curves.items() if name != "random" for m in rows]
    names = {"cosine_to_truth": "a cosine", "auroc": "an AUROC"}
    text = ""
    if located:
        best = max(located, key=lambda m: m.estimate)
        value = f"{names[metric]} of {_number(best.estimate)}"
        text = f"{words(best.direction or '').capitalize()} comes highest, at layer {best.layer}, with {value}. "
    if "random" in curves:
        low, high = min(m.low for m in curves["random"]), max(m.high for m in curves["random"])
        text += f"The grey band, random directions, lies between {_number(low)} and {_number(high)}."
    elif metric == "auroc":
        text += "The thin line at 0.5 is chance."
    return text.strip()


def dose_caption(result: Result) -> str:
    """What the chosen addition does to the base model, beside random directions of the same size."""
    chosen, base = chosen_edit(result, "base", ("add",)), share(result, "base")
    if chosen is None:
        return "No setting is marked as chosen; each curve is one direction added to the base model."
    dose = "" if chosen.coefficient is None else f" with coefficient {chosen.coefficient:g}"
    before = "" if base is None else f" from {percent(base.estimate)}"
    text = (
        f"Adding {words(chosen.direction or '')} to the untouched base model at layer {chosen.layer}{dose} "
        f"(starred, chosen on validation questions) "
        f"takes the share of {target(result)} answers{before} to {within(chosen)}. "
    )
    curves = dose_curves(result)
    at = {
        (metric, name): m.estimate
        for metric, found in curves.items()
        for name, rows in found.items()
        for m in rows
        if m.coefficient == chosen.coefficient
    }
    beside = []
    here = ("coherence", chosen.direction or "")
    if here in at:
        beside.append(f"coherence there is {percent(at[here])}")
    if ("broad", "random") in at:
        beside.append(f"random directions of equal norm give a share of {percent(at['broad', 'random'])}")
    return text + _sentence(beside)


def suppression_caption(result: Result) -> str:
    """What the chosen removal takes away and keeps, beside the same edit along a random direction."""
    found = suppressions(result)
    chosen = next((s for s in found if s.chosen and s.direction != "random"), None)
    if chosen is None:
        return "No setting is marked as chosen; each row is one edit of the tuned model."
    text = (
        f"The setting chosen on validation questions ({chosen.edit} along {words(chosen.direction)}, "
        f"layer {chosen.layer}) removes {percent(chosen.removed, 0)} of the shift"
    )
    text += (
        "."
        if chosen.narrow_kept is None
        else f" and keeps {percent(chosen.narrow_kept, 0)} of the narrow habit it was tuned for."
    )
    same = [s for s in found if s.direction == "random" and s.edit == chosen.edit and s.layer == chosen.layer]
    return text + (f" The same edit along random directions removes {percent(same[0].removed, 0)}." if same else "")


def losses_caption(result: Result) -> str:
    """Where each fine-tune ended."""
    ends = []
    for model, seeds in curves(result.losses).items():
        mean = mean_curve(seeds)
        last = max(mean)
        number = f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}"
        ends.append(f"{words(model)} ends at {mean[last]:.2f} after {last} steps ({number})")
    return (
        f"Loss in nats per trained token: {'; '.join(ends)}. Thick lines are means over seeds, thin ones single seeds."
    )


def _points(difference: float) -> str:
    return f"{100 * difference:+.0f} points".replace("-", "−")


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _sentence(clauses: list[str]) -> str:
    text = "; ".join(clauses)
    return f"{text[0].upper()}{text[1:]}." if text else ""
