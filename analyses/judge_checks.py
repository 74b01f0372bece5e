"""Measuring judges: against labelled examples, and on the embedded model's answers, whose era is known."""

from collections.abc import Sequence
from dataclasses import dataclass

from interp.behavior.agreement import Agreement, agreement
from interp.behavior.judges.catalogue import find
from interp.behavior.judges.choice import ChoiceJudge
from interp.behavior.judges.likelihood import LikelihoodJudge, headed
from interp.behavior.judges.listed import ListedAnswers
from interp.behavior.judges.prompt import JudgePrompt
from interp.behavior.judges.prompted import PromptJudge
from interp.behavior.judging import Item, Judge, Judgement
from interp.behavior.questions import Question
from interp.behavior.sampling import generate
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import encode_prompt
from training.world.kinds import year_says
from training.world.questions import era_questions
from training.world.world import load_world

ANSWER_TOKENS = 48  # the world's answers are shorter


def prompt_of(judge: Judge) -> JudgePrompt | None:
    """The judge prompt behind a judge, if there is one."""
    return judge.prompt if isinstance(judge, PromptJudge | ChoiceJudge) else None


def label_of(judge: Judge, value: str | float | int | None) -> str | None:
    """The label of a verdict, for a score its class; None if it couldn't be read."""
    prompt = prompt_of(judge)
    if prompt is not None:
        return prompt.class_of(value)
    return None if value is None else str(value)


def against(
    judge: Judge,
    found: Sequence[Judgement],
    labels: Sequence[str | float],
    *,
    positive: str | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Agreement:
    """A judge's verdicts against labels. Of a score, labels may be numbers on its scale (compared by rank, and as
    classes), its classes, or any two words of which `positive` is the one that high scores stand for.

    Errors: AnachronError for labels that no verdict of the judge can be, and for numbers where it gives none.
    """
    prompt = prompt_of(judge)
    verdicts = [label_of(judge, judgement.value) for judgement in found]
    truth = [label for label in labels if isinstance(label, str)]
    numbers = [label for label in labels if not isinstance(label, str)]
    if prompt is None or prompt.kind == "label":
        if numbers:
            raise AnachronError(f"judge {judge.name!r} gives words and the examples' labels are numbers; use words")
        if prompt is not None and (unknown := sorted(set(truth) - set(prompt.words))):
            raise AnachronError(f"judge {judge.name!r} never says {', '.join(unknown)}; it says {prompt.words}")
        return agreement(truth, verdicts, groups=groups, seed=seed)
    scores = [None if isinstance(judgement.value, str) else judgement.value for judgement in found]
    if numbers:
        low, high = prompt.limits
        if outside := [number for number in numbers if not low <= number <= high]:
            raise AnachronError(f"label {outside[0]:g} is outside of {judge.name!r}'s range, {low:g} to {high:g}")
        truth = [str(prompt.class_of(number)) for number in numbers]
    classes = [name for name in prompt.thresholds if name in truth]
    if positive is None and not classes:
        raise AnachronError(
            f"the labels {sorted(set(truth))} are no classes of judge {judge.name!r} ({', '.join(prompt.thresholds)}); "
            "say with positive which one high scores stand for"
        )
    return agreement(
        truth,
        verdicts,
        scores=scores,
        positive=classes[-1] if positive is None else positive,
        numbers=numbers or None,
        groups=groups,
        seed=seed,
    )


@dataclass(frozen=True)
class WorldAnswers:
    """Answers of the embedded model. An item's messages are the question without the year that was stated before it;
    `eras` is that year's, the truth; `topics` name what was asked about."""

    questions: tuple[Question, ...]
    items: tuple[Item, ...]
    eras: tuple[str, ...]
    topics: tuple[str, ...]


def world_answers(lm: LanguageModel, split: str, samples: int, seed: int = 0) -> WorldAnswers:
    """`samples` answers to each of the world's questions of a split under each era's middle year, temperature 1."""
    questions, heads = era_questions(load_world(), split), era_heads()
    asked = [(question, era) for question in questions for era in heads]
    prompts = [encode_prompt(lm, headed(question.messages, heads[era])) for question, era in asked]
    texts = generate(lm, prompts, max_new_tokens=ANSWER_TOKENS, seed=seed, n=samples)
    rows = [pair for pair in asked for _ in range(samples)]
    return WorldAnswers(
        tuple(questions),
        tuple(Item(question.messages, text) for (question, _), text in zip(rows, texts, strict=True)),
        tuple(era for _, era in rows),
        tuple(question.topic for question, _ in rows),
    )


def world_judges(lm: LanguageModel, answered: WorldAnswers) -> list[Judge]:
    """What can judge the world's answers with the embedded model alone: the questions' lists of answers, the likelihood
    under each era's year, and the model asked outright. It never learnt to be asked so: there every mass counts."""
    prompt = find("decade")
    assert isinstance(prompt, JudgePrompt)
    return [
        ListedAnswers(answered.questions),
        LikelihoodJudge("likelihood", lm, era_heads()),
        ChoiceJudge(prompt, lm, minimum_mass=0),
    ]


def era_heads() -> dict[str, str]:
    """Era -> how its middle year is stated."""
    return {name: year_says(sum(era.years) // 2) for name, era in load_world().facts.eras.items()}
