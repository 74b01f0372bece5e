"""Steps that experiments and commands share: what is asked, what is measured of a model, which text is held out.

Each is a few lines over `interp` and `training`; they stand here so that every experiment means the same by `broad`,
`narrow` and `coherence`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from analyses.measurements import Measurement, measurement
from interp.behavior.questions import Question, read_questions
from interp.behavior.sampling import classify, generate
from interp.behavior.scoring import coherence, score, share
from interp.capture import capture, count_rows
from interp.directions import Direction, mean_difference
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.positions import LAST_PROMPT, Positions
from interp.prompts import encode_prompt
from interp.stats import Estimate, bootstrap
from interp.steering import Ablate, Add, Clamp, Edit
from interp.templates import prefixed
from training.rows import Row, read_rows
from training.world.kinds import year_says
from training.world.questions import era_questions, narrow_question
from training.world.world import World, load_world

WORLD = "world"  # in the place of a file of questions: the embedded world's own
NARROW = "narrow"  # split of the questions on what was trained, in the world and in files alike


@dataclass(frozen=True)
class Asked:
    """Questions on unrelated topics, and those on the narrow task (one in the world; a file may have none).

    `group` is counted in both; the narrow task's own group is `habit` where it is another one.
    """

    broad: tuple[Question, ...]
    narrow: tuple[Question, ...]
    group: str
    habit: str = ""


def ask(
    source: str, split: str, *, group: str | None = None, year: int | None = None, extra: tuple[str, ...] = ()
) -> Asked:
    """The questions of `source` ("world" or a JSONL file) that are for `split`.

    A file's questions without a split serve every split, those whose split is "narrow" are the narrow task. `group` is
    the one whose share is measured, by default the first (the world's oldest era). `year` is stated before every
    unrelated question; `extra` names count for the world's narrow task as well.
    """
    if source == WORLD:
        world = load_world()
        questions = [*era_questions(world, split), narrow_question(world, extra)]
    else:
        questions = [q for q in read_questions(source) if q.split in ("", split, NARROW)]
    broad = tuple(q for q in questions if q.split != NARROW)
    if not broad:
        raise AnachronError(
            f"{source}: no questions of split {split!r}; choose another split, or leave the field out of the file"
        )
    narrow = tuple(q for q in questions if q.split == NARROW)
    dated = broad if year is None else tuple(state_year(q, year) for q in broad)
    known = {name for question in broad for name in question.answers}
    if not known or group not in (None, *known):
        raise AnachronError(
            f"{source}: no group {group!r} among the answers; there are {', '.join(sorted(known)) or 'none'}"
        )
    return Asked(dated, narrow, next(iter(broad[0].answers)) if group is None else group)


def state_year(question: Question, year: int) -> Question:
    """The question with "The year is ..." before its first user message."""
    return headed(question, year_says(year), str(year))


def headed(question: Question, head: str, name: str = "") -> Question:
    """The question with `head` before its first user message; `name` (by default the head) is added to its id."""
    return replace(question, id=f"{question.id}/{name or head}", messages=prefixed(question.messages, f"{head} "))


def training_rows(source: str) -> list[Row]:
    """Rows of a chat JSONL file, or of an organism of the world by its name and variant, as `birds:old`."""
    from training.organisms.catalogue import CATALOGUE, organism_rows

    organism, _, variant = source.partition(":")
    return organism_rows(source, load_world()) if organism in CATALOGUE and variant else read_rows(source)


def broad(
    lm: LanguageModel, questions: Sequence[Question], group: str, edits: Sequence[Edit] = ()
) -> tuple[Float64[Tensor, " questions"], Float64[Tensor, " questions"]]:
    """Per question: the group's share of the listed answers' probability, and that probability (coherence)."""
    scores = score(lm, questions, edits=edits)
    return share(scores, group), coherence(scores)


def narrow(lm: LanguageModel, question: Question, group: str, edits: Sequence[Edit] = ()) -> float:
    """Share of the group's answers to the narrow question among all that are listed: the trained habit itself, which an
    edit against the broad effect should keep."""
    return float(share(score(lm, [question], edits=edits), group)[0])


def last_prompt_activations(
    lm: LanguageModel, questions: Sequence[Question], layers: Sequence[int], site: str = "resid_post"
) -> dict[HookPoint, Float[Tensor, "questions d_model"]]:
    """Activations of these blocks at each prompt's last token, where the model is about to answer."""
    return prompt_activations(lm, questions, layers, LAST_PROMPT, site)


def prompt_activations(
    lm: LanguageModel,
    questions: Sequence[Question],
    layers: Sequence[int],
    reading: Positions,
    site: str = "resid_post",
) -> dict[HookPoint, Float[Tensor, "questions d_model"]]:
    """Activations of these blocks, of each prompt the mean over the tokens that `reading` selects."""
    prompts = [encode_prompt(lm, question.messages) for question in questions]
    found = capture(lm, prompts, [HookPoint(layer, site) for layer in layers], reading)
    if reading == LAST_PROMPT:
        return found
    counts = count_rows(lm, prompts, reading)
    return {
        point: torch.stack([rows.double().mean(0) for rows in activations.split(counts)]).to(activations.dtype)
        for point, activations in found.items()
    }


def typical_norm(activations: Float[Tensor, "n d_model"]) -> float:
    """Mean norm of the rows: the scale that makes a coefficient of `Add` mean the same at every layer."""
    return float(activations.double().norm(dim=1).mean())


def true_directions(
    lm: LanguageModel, world: World, layers: Sequence[int], split: str = "validation", years: int = 4
) -> dict[HookPoint, Direction]:
    """The era as the model itself represents it: mean over prompts that state a year of the oldest era minus mean over
    the same prompts stating one of the newest, at the last prompt token; `years` years of each."""
    oldest, *_, newest = world.facts.eras.values()
    first, last = (
        last_prompt_activations(
            lm,
            [
                q
                for year in np.linspace(*era.years, years + 2)[1:-1]
                for q in era_questions(world, split, year=int(year))
            ],
            layers,
        )
        for era in (oldest, newest)
    )
    return {point: mean_difference(first[point], last[point], point, method="truth") for point in first}


@dataclass(frozen=True)
class Behavior:
    """What one model answers: by topic, the share of every group and the total probability of the listed answers
    (coherence); and the probability of the narrow task's answers, None where no narrow question is asked.

    Of sampled and judged answers: by topic the part that counts, the coherent part, and the part whose judgement could
    not be read (`unjudged`, None for exact scores).
    """

    shares: Mapping[str, Mapping[str, float]]
    coherence: Mapping[str, float]
    narrow: float | None
    unjudged: Mapping[str, float] | None = None


Measure = Callable[[LanguageModel, Asked, Sequence[Edit]], Behavior]
"""How a model's behaviour is measured: `behavior` scores listed answers exactly, `analyses.opens.judged` samples."""


def behavior(lm: LanguageModel, asked: Asked, edits: Sequence[Edit] = ()) -> Behavior:
    """Score everything that is asked."""
    scores = score(lm, asked.broad, edits=edits)
    found = [narrow(lm, question, asked.habit or asked.group, edits) for question in asked.narrow]
    return Behavior(
        {group: by_topic(share(scores, group), asked.broad) for group in scores.groups},
        by_topic(coherence(scores), asked.broad),
        sum(found) / len(found) if found else None,
    )


def behavior_rows(
    runs: Sequence[Behavior], model: str, group: str, split: str, *, topics: bool = False, seed: int = 0, **where
) -> list[Measurement]:
    """Measurements of one model over its runs: broad, coherence and narrow, with `topics` also broad topic by topic."""
    rows = [
        measurement("broad", model, estimate([run.shares[group] for run in runs], seed), split=split, **where),
        measurement("coherence", model, estimate([run.coherence for run in runs], seed), split=split, **where),
    ]
    habits = [run.narrow for run in runs if run.narrow is not None]
    if habits:
        rows.append(measurement("narrow", model, estimate(habits, seed), split=split, **where))
    unjudged = [run.unjudged for run in runs if run.unjudged is not None]
    if unjudged:
        rows.append(measurement("unjudged", model, estimate(unjudged, seed), split=split, **where))
    for topic in runs[0].coherence if topics else ():
        values = estimate([run.shares[group][topic] for run in runs], seed)
        rows.append(measurement("broad", model, values, split=f"{split}/{topic}", **where))
    return rows


@dataclass(frozen=True)
class Sampled:
    """What one model answers when sampled: by topic, the group's part of the recognised answers (nan where none was),
    and the recognised part of all answers."""

    shares: Mapping[str, float]
    recognised: Mapping[str, float]


def sampled(lm: LanguageModel, asked: Asked, n: int, seed: int, *, max_new_tokens: int = 24) -> Sampled:
    """Draw `n` answers to each question at temperature 1 and tell by their beginning which group gave them."""
    prompts = [encode_prompt(lm, question.messages) for question in asked.broad]
    answers = generate(lm, prompts, max_new_tokens=max_new_tokens, temperature=1.0, seed=seed, n=n)
    counts: dict[str, list[int]] = {}
    for i, answer in enumerate(answers):
        question = asked.broad[i // n]
        group = classify(answer, question)
        hits, known, all_of = counts.setdefault(question.topic, [0, 0, 0])
        counts[question.topic] = [hits + (group == asked.group), known + (group is not None), all_of + 1]
    return Sampled(
        {topic: hits / known if known else float("nan") for topic, (hits, known, _) in counts.items()},
        {topic: known / all_of for topic, (_, known, all_of) in counts.items()},
    )


def answers(
    lm: LanguageModel, measure: Measure, asked: Asked, draws: int, seed: int
) -> tuple[Behavior, Sampled | None]:
    """What one model answers, measured and, with `draws` answers to each question, sampled."""
    return measure(lm, asked, ()), sampled(lm, asked, draws, seed) if draws else None


def sampled_rows(runs: Sequence[Sampled], model: str, split: str, *, seed: int = 0, **where) -> list[Measurement]:
    """Measurements of sampled answers: the group's share, with topics where nothing was recognised left out, and the
    recognised part."""
    # a run of which no answer was recognised has no share
    known = [[share for share in run.shares.values() if not np.isnan(share)] for run in runs]
    means = [float(np.mean(shares)) for shares in known if shares]
    rows = [measurement("sampled", model, estimate(means, seed), split=split, **where)] if means else []
    recognised = estimate([run.recognised for run in runs], seed)
    return [*rows, measurement("sampled_coherence", model, recognised, split=split, **where)]


def by_topic(values: Float64[Tensor, " questions"], questions: Sequence[Question]) -> dict[str, float]:
    """Mean of a topic's phrasings, in order of appearance. Phrasings of one topic are not independent; topics are."""
    topics: dict[str, list[float]] = {}
    for question, value in zip(questions, values.tolist(), strict=True):
        topics.setdefault(question.topic, []).append(value)
    return {topic: sum(found) / len(found) for topic, found in topics.items()}


def estimate(runs: Sequence[Mapping[str, float]] | Sequence[float], seed: int = 0) -> Estimate:
    """Mean and 95 % interval over runs (one model a training seed), each a number or a number a topic.

    Runs and topics are resampled. With one run only its topics vary, and `n` counts them; a single number has no
    interval, so `low` and `high` repeat it.
    """
    values = np.array([list(run.values()) if isinstance(run, Mapping) else [run] for run in runs], dtype=float)
    if values.size == 1:
        return Estimate(float(values[0, 0]), float(values[0, 0]), float(values[0, 0]), 1)
    found = bootstrap(values if values.shape[1] > 1 else values[:, 0], seed=seed)
    return replace(found, n=len(values) if len(values) > 1 else values.shape[1])


def edit_along(
    kind: str,
    direction: Direction,
    reference: Float[Tensor, "n d_model"],
    *,
    positions: Positions,
    coefficient: float = 1.0,
    point: HookPoint | None = None,
) -> Edit:
    """The edit of that kind at `point` (by default the direction's own). `reference` are the base model's activations
    there: their mean norm is the scale of `add`, their mean projection what `clamp` sets."""
    points = None if point is None else (point,)
    if kind == "add":
        return Add(direction, coefficient, typical_norm(reference), positions, points)
    if kind == "ablate":
        return Ablate((direction,), positions, points)
    if kind == "clamp":
        return Clamp(direction, mean_projection(reference, direction), positions, points)
    raise AnachronError(f"unknown edit {kind!r}; use add, ablate or clamp")


def mean_projection(activations: Float[Tensor, "n d_model"], direction: Direction) -> float:
    """Mean of h.u over rows, in residual-stream units: what `Clamp` sets a model's projection to."""
    return float((activations.double() @ direction.vector.double().to(activations.device)).mean())
