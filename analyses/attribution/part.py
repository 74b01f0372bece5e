"""The part of an experiment that attributes: where the first seed's effect comes from, small enough for every run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from analyses.attribution.collect import collect
from analyses.attribution.subject import CONTROL, TUNED, Sizes
from analyses.measurements import Measurement, measurement
from analyses.models import knows_world
from interp.behavior.questions import Question
from interp.dictionaries.dictionary import Dictionary
from interp.errors import AnachronError
from interp.pair import BASE, ModelPair
from interp.stats import Estimate
from training.world.questions import all_openers
from training.world.world import load_world

QUESTIONS = 2  # each is patched some hundred times
LISTED = 48  # answers of a question, openers counted: what a patch costs
DIGITS = 4  # kept of every figure
SMALL = Sizes(latents=10, shown=6, last=2, components=8, contrasts=8, modules=8, texts=50, labelled=400)


def attribution_of(
    pair: ModelPair,
    questions: Sequence[Question],
    group: str,
    reference: str,
    dictionary: Dictionary | None,
    seed: int,
    *,
    most: int = QUESTIONS,
    condition: str = "",
    sizes: Sizes = SMALL,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[list[Measurement], Mapping[str, Any]]:
    """Log-odds of `group` against all other groups (nats; `n` counts questions) in the base, the pair's
    "tuned-SEED" and its control "REFERENCE-SEED", and where their difference comes from, as plain data: what
    `collect` gives, and `about`, what it was made from.

    At most `most` of the questions are patched, with fewer of their answers (`fewer_answers`). Where the questions list
    no answers of the group and of another one, or the model can't be attributed, there are no measurements, and
    `absent` is the reason. Errors: AnachronError for a pair without these members.
    """
    names = {TUNED: f"{TUNED}-{seed}", CONTROL: f"{reference}-{seed}"}
    if missing := [name for name in names.values() if name not in pair.names]:
        raise AnachronError(
            f"nothing to attribute to: the pair has no {' and no '.join(missing)}, only {', '.join(pair.names)}"
        )
    listed = [q for q in questions if _has(q, group) and any(_has(q, other) for other in q.answers if other != group)]
    if not listed:
        reason = f"the questions list no answers of {group} and of others, whose log-odds could be attributed"
        return [], {"absent": reason}
    world = knows_world(pair.base.name)
    asked = [fewer_answers(one_opener_an_era(question) if world else question) for question in listed]
    say(f"  log-odds of {group} in {names[TUNED]} and {names[CONTROL]}, on {min(most, len(asked))} questions")
    try:
        found = collect(
            pair,
            asked,
            group,
            dictionary=dictionary,
            most=most,
            knows_world=world,
            seed=seed,
            tuned=names[TUNED],
            control=names[CONTROL],
            sizes=sizes,
        )
    except AnachronError as error:  # the run's other figures don't depend on it
        return [], {"absent": str(error)}
    behavior = found["behavior"]["models"]
    rows = [
        measurement("log_odds", model, Estimate(**behavior[name]), condition=condition)
        for model, name in ((BASE, BASE), (TUNED, TUNED), (reference, CONTROL))
    ]
    about = {
        **names,
        "asked": len(listed),
        "answers": _most(asked),
        "of": _most(listed),
        "openers": len(asked[0].openers),
    }
    return rows, rounded({"about": about, **found})


def fewer_answers(question: Question, listed: int = LISTED) -> Question:
    """The question with at most `listed` answers, openers counted: of each group the same number at most, evenly
    spread over those it has, and one at least."""
    sizes = [len(answers) for answers in question.answers.values()]
    most = max(sizes, default=0)
    while most > 1 and len(question.openers) * sum(min(size, most) for size in sizes) > listed:
        most -= 1
    answers = {}
    for group, own in question.answers.items():
        n = min(most, len(own))
        answers[group] = tuple(own[i * len(own) // n] for i in range(n))
    return replace(question, answers=answers)


def one_opener_an_era(question: Question) -> Question:
    """A question of the world's eras with one of the equally likely openers of each; any other as it is."""
    facts = load_world().facts
    if tuple(question.openers) != all_openers(facts):
        return question
    return replace(question, openers=("", *(era.openers[0] for era in facts.eras.values())))


def rounded(data: Any) -> Any:
    """Plain data with every fraction at DIGITS significant digits."""
    if isinstance(data, Mapping):
        return {key: rounded(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [rounded(value) for value in data]
    return float(f"{data:.{DIGITS}g}") if isinstance(data, float) else data


def _has(question: Question, group: str) -> bool:
    return group in question.answers and bool(question.answers[group])


def _most(questions: Sequence[Question]) -> int:
    return max(len(answers) for question in questions for answers in question.answers.values())
