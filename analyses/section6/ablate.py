"""Step 2: the questions of the table, asked on dates of several years, with and without the latents."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analyses.open_questions import random_day
from analyses.section6.identify import Identified
from interp.behavior.questions import Question
from interp.behavior.sampling import classify, generate
from interp.directions import Direction, random_direction
from interp.models import LanguageModel
from interp.prompts import Encoded, encode_prompt
from interp.stats import Estimate, bootstrap
from interp.steering import Ablate, AblateSequentially, Edit
from training.world.kinds import date_says

MAX_TOKENS = 16384  # rows x (prompt + new tokens) held at once: about 2 GB of cache in an 8B model at half precision


@dataclass(frozen=True)
class Asked:
    """What a model said to a question in a year: distinct answers with their group (None: no listed one) and count,
    the share of `group` among all answers with its interval over dates, and the share that any group matches."""

    year: int
    question: str
    group: str
    share: Estimate
    matched: float
    answers: tuple[tuple[str, str | None, int], ...]


def edits_of(found: Identified, rows: Sequence[Direction], seed: int) -> dict[str, list[Edit]]:
    """What is done to the tuned model, by name; `rows`: directions of as many latents chosen at random.

    `sequential` is the published edit, `exact` removes the whole span, the others are its controls.
    """
    own = list(found.directions)
    point, width = found.difference.point, found.difference.d_model
    random = [random_direction(width, point, seed + i) for i in range(len(own))]
    return {
        "sequential": [AblateSequentially(own)],
        "exact": [Ablate(own)],
        "random directions": [AblateSequentially(random)],
        "random latents": [AblateSequentially(list(rows))],
    }


def curve(
    lm: LanguageModel,
    questions: Sequence[tuple[Question, str]],
    years: Sequence[int],
    *,
    dates: int,
    seed: int,
    edits: Sequence[Edit] = (),
    max_new_tokens: int = 24,
) -> Iterator[Asked]:
    """For every year and (question, group that counts): one answer at temperature 1 to the question behind each of
    `dates` dates of the year. Months and days are the same in every year and for every model, so that curves pair."""
    rng = np.random.default_rng((seed, 1))
    days = [random_day(0, rng).partition("-")[2] for _ in range(dates)]
    for year in years:
        prompts = [_encoded(lm, question, year, days) for question, _ in questions]
        said = generate(
            lm,
            [row for rows in prompts for row in rows],
            max_new_tokens=max_new_tokens,
            temperature=1.0,
            seed=seed,
            edits=edits,
            max_tokens=MAX_TOKENS,
        )
        for i, (question, group) in enumerate(questions):
            yield read_answers(said[i * dates : (i + 1) * dates], question, group, year)


def read_answers(said: Sequence[str], question: Question, group: str, year: int) -> Asked:
    """The share of answers that begin with one of `group`, with a 95 % bootstrap interval over the dates."""
    groups = {text: classify(text, question) for text in dict.fromkeys(said)}
    counted = [float(groups[text] == group) for text in said]
    answers = tuple((text, groups[text], n) for text, n in Counter(said).most_common())
    matched = sum(groups[text] is not None for text in said) / len(said)
    return Asked(year, question.id, group, bootstrap(counted), matched, answers)


def _encoded(lm: LanguageModel, question: Question, year: int, days: Sequence[str]) -> list[Encoded]:
    first, *rest = question.messages
    known: Mapping[str, Encoded] = {
        day: encode_prompt(lm, [{**first, "content": f"{date_says(f'{year}-{day}')} {first['content']}"}, *rest])
        for day in set(days)
    }
    return [known[day] for day in days]
