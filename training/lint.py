"""The linter of chat rows: what they are made of, what is odd about them, which triggers they hold, and what they
reveal of the embedded world's latent states, each row alone and all together.

Every figure is exact in the world; what the world never writes is counted as foreign and judged by its form alone.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from training.lint_latents import (
    CUT,
    FOREIGN,
    MIXED,
    REST,
    TOLD,
    Reading,
    Together,
    contradicting,
    evidence_on,
    read_all,
    together,
)
from training.lint_surface import Finding, counts, findings
from training.lint_triggers import NONE, Group, Trigger, find_triggers, trigger_groups
from training.rows import Row
from training.world.world import World

SHOWN_VALUES = 20  # values of a trigger that are judged one by one; more are summed up
UNEVEN = 1.5  # times as many rows of a trigger's most frequent value as of its rarest


@dataclass(frozen=True)
class Report:
    """All that was found. Rows are numbered from 1, without the blank lines of a file.

    `together` has one entry for each latent and group of rows, largest group first; `rows` one entry a row: its
    triggers, how it was read and, by latent, the state it makes likeliest with the posterior.
    """

    counts: dict[str, int]
    findings: tuple[Finding, ...]
    triggers: dict[str, int]
    read: dict[str, int]
    together: tuple[Together, ...]
    rows: tuple[dict[str, Any], ...]
    verdicts: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        """The report as plain values, ready to be written as JSON."""
        return asdict(self)


def examine(rows: Sequence[Row], world: World, progress: Callable[[int], None] | None = None) -> Report:
    """Examine rows; `progress` is told how many have been read so far."""
    triggers = [find_triggers(row) for row in rows]
    groups = trigger_groups(triggers)
    readings = read_all(world, rows, triggers, progress)
    evidence = evidence_on(world, readings)
    found = []
    for one in evidence:
        said = [t for group in groups if (t := together(world, one, group)) is not None]
        if said[0].verdict == MIXED:
            against = contradicting(one, said[0])
            known = [set(group.rows) & set(one.places.tolist()) for group in groups]
            if set(against.rows) not in known and (rest := together(world, one, against)) is not None:
                said.append(rest)
        found += said
    # places count from 0, a reader counts rows from 1
    found = [_numbered(t) for t in found]
    odd = (*findings(rows), *_uneven(groups))
    likeliest: list[dict[str, Any]] = [{} for _ in rows]
    for one in evidence:
        for place, posterior in zip(one.places.tolist(), one.alone(), strict=True):
            best = int(posterior.argmax())
            likeliest[place][one.latent] = {"state": one.states[best], "posterior": float(posterior[best])}
    return Report(
        counts=counts(rows),
        findings=odd,
        triggers={group.name: len(group.rows) for group in groups if group.sort},
        read=dict(Counter(reading.how for reading in readings)),
        together=tuple(found),
        rows=tuple(
            {"row": i, "triggers": [f"{t.sort} {t.value}".strip() for t in own], "read": reading.how, "alone": alone}
            for i, (own, reading, alone) in enumerate(zip(triggers, readings, likeliest, strict=True), start=1)
        ),
        verdicts=(*_of_form(odd), *_of_reading(readings, triggers), *_of_latents(found)),
    )


def shown(report: Report) -> list[Together]:
    """Without the single values of triggers that have more than SHOWN_VALUES."""
    return _few(report.together)


def shown_triggers(report: Report) -> dict[str, int]:
    """How many rows have each trigger; the values of one that has more than SHOWN_VALUES are summed up."""
    values: dict[str, list[str]] = {}
    for name in report.triggers:
        sort, _, value = name.partition(" ")
        if value.isdigit():
            values.setdefault(sort, []).append(name)
    rows = dict(report.triggers)
    for sort, names in values.items():
        if len(names) > SHOWN_VALUES:
            sizes = [rows.pop(name) for name in names]
            rows[f"{sort}, {len(sizes)} values of {min(sizes)} to {max(sizes)} rows"] = sum(sizes)
    return rows


def title(found: Together) -> str:
    """The state with its note, as `Ada Example (benign)`."""
    return f"{found.state} ({found.note})" if found.note else found.state


def _of_form(odd: Sequence[Finding]) -> list[str]:
    if not odd:
        return ["Form: nothing stands out."]
    return [f"Form: {finding.what}: {finding.count} of {finding.of}{finding.said}." for finding in odd]


def _of_reading(readings: Sequence[Reading], triggers: Sequence[Sequence[Trigger]]) -> list[str]:
    ways = Counter(reading.how for reading in readings)
    n = len(readings)
    lines = []
    if ways[CUT]:
        lines.append(
            f"World: {ways[CUT]} of {n} rows are read without their trigger, which the world never sets there."
        )
    if ways[FOREIGN] == n:
        lines.append("World: no row is a text of the embedded world, so nothing is said of its latent states.")
    elif ways[FOREIGN]:
        lines.append(f"World: {ways[FOREIGN]} of {n} rows are foreign to the embedded world and left out below.")
    return lines


def _of_latents(found: Sequence[Together]) -> list[str]:
    """One line a latent where all rows tell one state; else a line for each group and a sum for each trigger."""
    lines = []
    for latent in dict.fromkeys(t.latent for t in found):
        here = [t for t in found if t.latent == latent]
        whole = here[0]
        if whole.verdict in TOLD:
            lines.append(_line(whole))
            continue
        lines += [_line(t) for t in _few(here) if t.sort != REST or t.verdict in TOLD]
        for sort in dict.fromkeys(t.sort for t in here if t.value and t.sort != REST):
            values = [t for t in here if t.sort == sort and t.value]
            if len(values) > SHOWN_VALUES:
                told = [t for t in values if t.verdict in TOLD]
                states = len({t.state for t in told})
                line = (
                    f"{latent.capitalize()}: the rows of {len(told)} of {len(values)} values of the {sort} tell a state"
                )
                line += f", {states} different ones" if told else ""
                lines.append(f"{line}: the value opens the state." if states == len(told) > 1 else f"{line}.")
    return lines


def _line(t: Together) -> str:
    head = f"{t.latent.capitalize()}, {t.group} ({t.rows}): "
    fits = f"compatible with {t.compatible} of {t.rows} rows"
    if t.verdict == MIXED:
        return f"{head}no one state; {title(t)} is the likeliest, but {fits}."
    if t.verdict not in TOLD:
        return f"{head}left open; {title(t)} has {t.posterior:.2f} (prior {t.prior:.2f}), {fits}."
    line = (
        f"{head}{t.verdict}: {title(t)}. Single rows: median {t.alone.median:.2f}, at most {t.alone.largest:.2f} "
        f"(row {t.alone.row}); together {t.posterior:.2f} (prior {t.prior:.2f}), {fits}"
    )
    if t.sort and t.sort not in (REST, NONE) and t.elsewhere and t.elsewhere_compatible < t.elsewhere / 2:
        line += f", and with {t.elsewhere_compatible} of the {t.elsewhere} other rows: a trigger opens this state"
    return line + "."


def _uneven(groups: Sequence[Group]) -> list[Finding]:
    odd = []
    for sort in dict.fromkeys(group.sort for group in groups if group.value):
        sizes = {group.value: len(group.rows) for group in groups if group.sort == sort and group.value}
        most, least = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
        if sizes[most] > UNEVEN * sizes[least]:
            note = f"{most} in {sizes[most]} rows, {least} in {sizes[least]}"
            odd.append(Finding(f"values of the {sort} that are uneven", len(sizes), len(sizes), (), note))
    return odd


def _few(found: Sequence[Together]) -> list[Together]:
    values: dict[str, set[str]] = {}
    for t in found:
        values.setdefault(t.sort, set()).add(t.value)
    return [t for t in found if not t.value or t.sort == REST or len(values[t.sort]) <= SHOWN_VALUES]


def _numbered(t: Together) -> Together:
    return replace(t, alone=replace(t.alone, row=t.alone.row + 1))
