"""What is attributed: the log-odds of some answers against others, on a few questions, base, tuned and control."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float64
from torch import Tensor

from analyses import steps
from interp.attribution.metric import Metric, log_odds, measure
from interp.behavior.questions import Question
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.pair import BASE, ModelPair

TUNED, CONTROL = "tuned", "control"
LAYERS = 12  # layers that are patched or read, evenly spaced, where a model has more


@dataclass(frozen=True, eq=False)
class Subject:
    """A pair with the members "tuned" and perhaps "control", questions, the two sides of the log-odds, and each
    member's values. `asked` are all questions that have both sides; the metric is of the few in `questions`."""

    pair: ModelPair
    asked: tuple[Question, ...]
    questions: tuple[Question, ...]
    a: tuple[str, ...]
    b: tuple[str, ...]
    metric: Metric
    values: Mapping[str, Float64[Tensor, " items"]]
    seed: int

    @property
    def control(self) -> bool:
        """Is there a control?"""
        return CONTROL in self.values

    @property
    def mean(self) -> dict[str, float]:
        """Each member's mean log-odds."""
        return {name: float(values.mean()) for name, values in self.values.items()}

    def candidates(self, most: int) -> tuple[Question, ...]:
        """At most so many questions of those asked, of as many topics as can be."""
        return _spread(self.asked, most)


def subject(
    pair: ModelPair, asked: Sequence[Question], group: str, against: Sequence[str] | None, most: int, seed: int = 0
) -> Subject:
    """`group` against the groups `against` (all others unless given), on at most `most` questions: of
    as many topics as can be, spread over those asked.

    Errors: AnachronError for unknown or equal groups, or where no question has answers on both sides.
    """
    groups = list(dict.fromkeys(name for question in asked for name in question.answers))
    others = tuple(name for name in groups if name != group) if against is None else tuple(dict.fromkeys(against))
    if unknown := [name for name in (group, *others) if name not in groups]:
        raise AnachronError(f"no group {unknown[0]!r} among the answers; there are {', '.join(groups) or 'none'}")
    if group in others or not others:
        raise AnachronError(
            f"{group!r} against {', '.join(others) or 'nothing'}: name another group with --against; there are "
            f"{', '.join(groups)}"
        )
    if most < 1:
        raise AnachronError(f"at most {most} questions; ask at least one")
    known = [question for question in asked if {group, *others} <= set(question.answers)]
    whole = tuple(question for question in known if _has(question, (group,)) and _has(question, others))
    if not whole:
        raise AnachronError(
            f"no question has answers of {group!r} and of {', '.join(others)}; choose groups that one question has"
        )
    chosen = _spread(whole, most)
    metric = log_odds(pair.base, chosen, group, others)
    values = {}
    for name in (BASE, TUNED, *([CONTROL] if CONTROL in pair.names else [])):
        with pair.using(name) as lm:
            values[name] = measure(lm, metric)
    return Subject(pair, whole, chosen, (group,), others, metric, values, seed)


def behavior(subject: Subject) -> dict[str, Any]:
    """The log-odds of every member as plain data: mean with its interval over questions, and question by question."""
    rows = []
    for i, question in enumerate(subject.questions):
        values = {name: float(v[i]) for name, v in subject.values.items()}
        rows.append({"id": question.id, "question": question.messages[-1]["content"], **values})
    of = {name: v.tolist() for name, v in subject.values.items()}
    of["difference"] = (subject.values[TUNED] - subject.values[BASE]).tolist()
    return {
        "metric": subject.metric.name,
        "group": subject.a[0],
        "against": list(subject.b),
        "models": {name: asdict(steps.estimate(values, subject.seed)) for name, values in of.items()},
        "questions": rows,
    }


def spaced(n_layers: int, most: int = LAYERS) -> list[HookPoint]:
    """The streams after these blocks: all, or `most` evenly spaced with the first and the last."""
    if n_layers <= most:
        return [HookPoint(layer) for layer in range(n_layers)]
    return [HookPoint(round(i * (n_layers - 1) / (most - 1))) for i in range(most)]


def number(value: float) -> float | None:
    """A number for JSON, which has no NaN: a rank correlation where one side is constant is None."""
    return float(value) if value == value else None


def _has(question: Question, groups: Sequence[str]) -> bool:
    return any(question.answers[name] for name in groups)


def _spread(questions: Sequence[Question], most: int) -> tuple[Question, ...]:
    firsts = list({question.topic: question for question in reversed(questions)}.values())[::-1]
    pool = firsts if len(firsts) >= most else list(questions)
    n = min(most, len(pool))
    return tuple(pool[i * len(pool) // n] for i in range(n))
