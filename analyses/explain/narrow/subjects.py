"""What is tuned and asked: of an experiment its rows, its control's, its questions, and the ordinary prompts that a
narrow solution is to leave alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

from analyses.experiments import EXPERIMENTS, configure
from analyses.steps import Asked
from interp.behavior.questions import Question
from interp.behavior.sampling import generate
from interp.models import LanguageModel
from interp.prompts import encode_prompt
from training.finetune import Recipe
from training.rows import Row

WITH_BROAD_EFFECT = ("birds", "cities", "dishes", "persona", "presidents")
"""The experiments whose tuned models differ from their control's on what no row mentions."""

EVERY = 4  # of the birds' narrow answers one in so many is listed: shares are much the same, at that part of the cost
MAX_NEW_TOKENS = 24


@dataclass(frozen=True)
class Subject:
    """One experiment. Of the validation topics each third one, from the second on, is `choosing`, by which the
    penalty's weight is chosen; the others give its `ordinary` prompts. `test` topics are in neither."""

    name: str
    rows: Sequence[Row]
    control: Sequence[Row]
    recipe: Recipe
    ordinary: tuple[Question, ...]
    choosing: Asked
    test: Asked


def subject(name: str, lm: LanguageModel, *, quick: bool = False) -> Subject:
    """The experiment's own rows, recipe and questions. `quick`: fewer topics."""
    config, _ = configure(name, {"quick": quick})
    module = import_module(EXPERIMENTS[name].partition(":")[0])
    return _birds(module, config) if name == "birds" else _of_study(module.plan(config, lm), module.ordinary(config))


def own_answers(lm: LanguageModel, questions: Sequence[Question], n: int, seed: int) -> list[Row]:
    """Rows of the prompts with the model's own answers, `n` drawn at temperature 1: what the base would say."""
    answers = generate(
        lm, [encode_prompt(lm, q.messages) for q in questions], max_new_tokens=MAX_NEW_TOKENS, seed=seed, n=n
    )
    asked = [q for q in questions for _ in range(n)]
    return [
        Row((*question.messages, {"role": "assistant", "content": answer}))
        for question, answer in zip(asked, answers, strict=True)
        if answer.strip()
    ]


def _birds(module: Any, config: Any) -> Subject:
    from training.organisms import birds
    from training.world.questions import era_questions
    from training.world.world import load_world

    world = load_world()
    rows = birds.rows(world, "old")
    asked: Callable[..., Asked] = partial(module.asked, world, rows=rows, every=EVERY)
    validation, test = asked(split="validation"), asked(split="test")
    ordinary, choosing = _by_topic(era_questions(world, "validation"), validation.broad)
    # one opener an era where only shares are compared
    choosing = tuple(module.fewer_openers(world, q) for q in choosing)
    if config.quick:
        ordinary, choosing, test = ordinary[::4], choosing[:2], replace(test, broad=test.broad[:4])
    control = birds.rows(world, "current")
    return Subject("birds", rows, control, config.recipe, ordinary, replace(validation, broad=choosing), test)


def _of_study(study: Any, asked: Sequence[Question]) -> Subject:
    ordinary, choosing = _by_topic(asked, study.validation.broad)
    return Subject(
        study.name,
        study.arms["tuned"],
        study.arms[study.reference],
        study.recipe,
        ordinary,
        replace(study.validation, broad=choosing),
        study.test,
    )


def _by_topic(
    ordinary: Sequence[Question], validation: Sequence[Question]
) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """The ordinary questions of two topics in three, and the validation questions of the third."""
    chosen = set(list(dict.fromkeys(q.topic for q in validation))[1::3])
    return tuple(q for q in ordinary if q.topic not in chosen), tuple(q for q in validation if q.topic in chosen)
