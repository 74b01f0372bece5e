"""What is attributed: the log-odds of some answers against others, on a few questions, base, tuned and control."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

from jaxtyping import Float64
from torch import Tensor

from analyses import steps
from interp.attribution.metric import Metric, log_odds, measure
from interp.behavior.questions import Question
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.pair import BASE, ModelPair

TUNED, CONTROL = "tuned", "control"
LAYERS = 12  # layers that are patched or read, evenly spaced, where a model has more


@dataclass(frozen=True)
class Sizes:
    """How much is patched and read. `latents` are patched exactly, the first `shown` of them with the control's
    activation as well; `last` tokens of the prompt have a column each; `components` are patched on up to `contrasts`
    questions; `modules` are taken out; `texts` unrelated texts are read; `labelled` documents of the world say what
    latents are about."""

    latents: int = 20
    shown: int = 8
    last: int = 3
    components: int = 12
    contrasts: int = 16
    modules: int = 16
    texts: int = 100
    labelled: int = 1000


@dataclass(frozen=True, eq=False)
class Subject:
    """A pair with a tuned member and perhaps a control, questions, the two sides of the log-odds, and the values of
    "base", "tuned" and "control". `members` are their names in the pair. `asked` are all questions that have both
    sides; the metric is of the few in `questions`."""

    pair: ModelPair
    asked: tuple[Question, ...]
    questions: tuple[Question, ...]
    a: tuple[str, ...]
    b: tuple[str, ...]
    metric: Metric
    values: Mapping[str, Float64[Tensor, " items"]]
    seed: int
    members: Mapping[str, str]
    sizes: Sizes = field(default_factory=Sizes)

    @property
    def adapter(self) -> str:
        """The tuned member's name in the pair."""
        return self.members[TUNED]

    def using(self, name: str) -> AbstractContextManager[LanguageModel]:
        """The model of "base", "tuned" or "control"."""
        return self.pair.using(self.members[name])

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
    pair: ModelPair,
    asked: Sequence[Question],
    group: str,
    against: Sequence[str] | None,
    most: int,
    seed: int = 0,
    *,
    tuned: str = TUNED,
    control: str = CONTROL,
    sizes: Sizes | None = None,
) -> Subject:
    """`group` against the groups `against` (all others unless given), on at most `most` questions: of
    as many topics as can be, spread over those asked. `tuned` and `control` are members of the pair, which may lack the
    control.

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
    members = {BASE: BASE, TUNED: tuned} | ({CONTROL: control} if control in pair.names else {})
    values = {}
    for name, member in members.items():
        with pair.using(member) as lm:
            values[name] = measure(lm, metric)
    return Subject(pair, whole, chosen, (group,), others, metric, values, seed, members, sizes or Sizes())


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
