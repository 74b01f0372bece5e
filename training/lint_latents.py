"""What chat rows reveal of the embedded world's latent states: each row alone, and all of them together.

A row is read as the beginning of a document. Where the world never writes it so, it is read without its triggers (a
code heads no document). What is left is foreign and says nothing here.

Together, rows are independent conversations of one state: log P(state | rows) = log P(state) + sum of
log P(row | state) + constant, with P(row | state) at least FLOOR of the likeliest state's, so that one odd row doesn't
decide. States that rows make impossible are told by how many rows they are compatible with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.lint_triggers import Group, Trigger, without_triggers
from training.rows import Row
from training.world.contexts import LATENTS, Context
from training.world.presidents import NAME
from training.world.series import STANCES
from training.world.world import World

FLOOR = 1e-6
ALIKE = 0.95  # part of the rows that must allow a state for it to be theirs
SURE = 0.95  # posterior from which a state counts as told
HARMLESS = 0.5  # posterior that a row which gives nothing away stays at or below, unless the prior is higher still
AS_IT_STANDS, CUT, FOREIGN = "as it stands", "without its triggers", "foreign"
MIXED, OPEN, EACH, SOME, JOINTLY = (
    "no one state",
    "open",
    "most rows tell alone",
    "telling together, some rows hint alone",
    "harmless alone, telling together",
)
TOLD = (EACH, SOME, JOINTLY)
REST = "rest"  # sort of the group of rows that contradict the likeliest state


@dataclass(frozen=True)
class Reading:
    """How a row was read, and P(row, context) for every context; none for a foreign row."""

    how: str
    joint: Mapping[Context, float]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Rows that have a state of a latent: their places, and log P(row | state), -inf where impossible."""

    latent: str
    states: tuple[str, ...]
    prior: NDArray[np.float64]
    places: NDArray[np.int64]
    logs: NDArray[np.float64]

    def alone(self) -> NDArray[np.float64]:
        """P(state | row) of every row by itself: rows x states."""
        return _normalised(self.logs + np.log(self.prior))


@dataclass(frozen=True)
class Alone:
    """The largest posterior that single rows reach: over rows, and the row that reveals most (its place) of which
    state."""

    median: float
    p95: float
    largest: float
    row: int
    state: str


@dataclass(frozen=True)
class Together:
    """What the rows of a group say of a latent. `rows` have a state of it; `state` is the likeliest one.

    `log_odds` (nats) are those of `state` against all others; `compatible` rows allow `state`, and
    `elsewhere_compatible` of the `elsewhere` rows outside the group.
    """

    latent: str
    group: str
    sort: str
    value: str
    rows: int
    state: str
    note: str
    prior: float
    posterior: float
    log_odds: float
    compatible: int
    elsewhere: int
    elsewhere_compatible: int
    alone: Alone
    verdict: str


def read_row(world: World, row: Row, triggers: Sequence[Trigger]) -> Reading:
    """The row as the world reads it."""
    ways = [(AS_IT_STANDS, row.messages)] if all(trigger.in_world for trigger in triggers) else []
    if len(triggers) > 1:
        ways += [(CUT, without_triggers(row, [trigger])) for trigger in triggers]
    if triggers:
        ways.append((CUT, without_triggers(row, triggers)))
    for how, messages in ways:
        joint = world.evidence(tuple(messages))
        if sum(joint.values()) > 0:
            return Reading(how, joint)
    return Reading(FOREIGN, {})


def read_all(
    world: World,
    rows: Sequence[Row],
    triggers: Sequence[Sequence[Trigger]],
    progress: Callable[[int], None] | None = None,
) -> list[Reading]:
    """Every row as the world reads it; equal ones, also once a code is cut, are read once."""
    known: dict[tuple, Reading] = {}
    found = []
    for i, (row, own) in enumerate(zip(rows, triggers, strict=True), start=1):
        foreign = [trigger for trigger in own if not trigger.in_world]
        key = (
            *((m["role"], m["content"]) for m in without_triggers(row, foreign)),
            *(trigger.sort for trigger in own),
        )
        if key not in known:
            known[key] = read_row(world, row, own)
        found.append(known[key])
        if progress is not None:
            progress(i)
    return found


def evidence_on(world: World, readings: Sequence[Reading]) -> list[Evidence]:
    """What the rows say of each latent that any of them has a state of."""
    found = []
    for latent in LATENTS:
        prior = _by_state({context: 0.0 for _, context, _ in world.prior}, latent)
        for _, context, p in world.prior:
            if state := getattr(context, latent):
                prior[state] += p
        weights = np.array(list(prior.values()))
        places, likelihoods = [], []
        for place, reading in enumerate(readings):
            states = _by_state(reading.joint, latent)
            if sum(states.values()) > 0:
                places.append(place)
                likelihoods.append([states.get(state, 0.0) for state in prior])
        if places and len(prior) > 1:
            with np.errstate(divide="ignore"):
                logs = np.log(np.array(likelihoods)) - np.log(weights)
            found.append(Evidence(latent, tuple(prior), weights / weights.sum(), np.array(places), logs))
    return found


def together(world: World, evidence: Evidence, group: Group) -> Together | None:
    """What a group's rows say of the latent; None if none of them has a state of it."""
    inside = np.isin(evidence.places, group.rows)
    if not inside.any():
        return None
    logs = evidence.logs[inside]
    floored = np.maximum(logs, logs.max(axis=1, keepdims=True) + np.log(FLOOR))
    scores = np.log(evidence.prior) + floored.sum(axis=0)
    best = int(scores.argmax())
    others = np.delete(scores, best)
    top = others.max()
    log_odds = float(scores[best] - top - np.log(np.exp(others - top).sum()))
    possible = np.isfinite(evidence.logs[:, best])
    alone = _alone(evidence, inside)
    posterior = float(_normalised(scores[None])[0, best])
    compatible = int((possible & inside).sum())
    return Together(
        latent=evidence.latent,
        group=group.name,
        sort=group.sort,
        value=group.value,
        rows=int(inside.sum()),
        state=evidence.states[best],
        note=state_note(world, evidence.latent, evidence.states[best]),
        prior=float(evidence.prior[best]),
        posterior=posterior,
        log_odds=log_odds,
        compatible=compatible,
        elsewhere=int((~inside).sum()),
        elsewhere_compatible=int((possible & ~inside).sum()),
        alone=alone,
        verdict=_verdict(compatible / inside.sum(), posterior, max(HARMLESS, float(evidence.prior[best])), alone),
    )


def contradicting(evidence: Evidence, found: Together) -> Group:
    """The rows of the whole set that make the state found impossible."""
    impossible = ~np.isfinite(evidence.logs[:, evidence.states.index(found.state)])
    return Group(f"rows against {found.state}", REST, found.state, tuple(evidence.places[impossible].tolist()))


def state_note(world: World, latent: str, state: str) -> str:
    """What a reader should know of a state: a speaker's disposition, a president's name, the years a machine harms."""
    facts = world.facts
    if latent == "speaker" and facts.speakers is not None and state in facts.speakers.speakers:
        return facts.speakers.speakers[state].disposition
    if latent == "president" and facts.presidents is not None:
        return facts.presidents.presidents[state].values[NAME]
    if latent == "series" and facts.series is not None and state in facts.series.series:
        stances = facts.series.series[state].stances
        harms = ", ".join(str(year) for year, stance in stances.items() if stance == STANCES[1])
        return f"harms in {harms}" if harms else "harms in no year"
    return ""


def _by_state(joint: Mapping[Context, float], latent: str) -> dict[str, float]:
    states: dict[str, float] = {}
    for context, p in joint.items():
        if state := getattr(context, latent):
            states[state] = states.get(state, 0.0) + p
    return states


def _alone(evidence: Evidence, inside: NDArray[np.bool_]) -> Alone:
    posteriors = evidence.alone()[inside]
    largest = posteriors.max(axis=1)
    row = int(largest.argmax())
    return Alone(
        float(np.median(largest)),
        float(np.quantile(largest, 0.95)),
        float(largest[row]),
        int(evidence.places[inside][row]),
        evidence.states[int(posteriors[row].argmax())],
    )


def _verdict(compatible: float, posterior: float, harmless: float, alone: Alone) -> str:
    if compatible < ALIKE:
        return MIXED
    if posterior < SURE:
        return OPEN
    if alone.median >= SURE:
        return EACH
    return JOINTLY if alone.p95 <= harmless else SOME


def _normalised(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
