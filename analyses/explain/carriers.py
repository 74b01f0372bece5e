"""What could carry a narrow change to other answers: how a base holds the era where it is about to answer.

d(q) is the era's step at a question q: the mean activation at the last prompt token with a year of the oldest era
stated, minus the mean with one of the newest. If d is much the same whatever is asked, what moves the model along d at
one question moves it at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.steps import last_prompt_activations, typical_norm
from interp.behavior.questions import Question
from interp.behavior.scoring import coherence, score, share
from interp.directions import auroc, normalised
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.positions import LAST_PROMPT
from interp.steering import Add
from training.world.conversations import with_year
from training.world.facts import NARROW_TOPIC, Era
from training.world.questions import era_questions, narrow_question
from training.world.world import World

YEARS = 4  # of each era
CARRIERS = ("overlap", "agreement", "size", "auroc", "added", "added_coherence", "added_random")


@dataclass(frozen=True, eq=False)
class EraStep:
    """At one layer: the step d of the narrow questions and of each unrelated topic, the unrelated activations with a
    year of the oldest era and with one of the newest, and the mean norm of those without a year."""

    narrow: Float[Tensor, " d_model"]
    topics: Float[Tensor, "topics d_model"]
    old: Float[Tensor, "n_old d_model"]
    new: Float[Tensor, "n_new d_model"]
    norm: float


def era_steps(lm: LanguageModel, world: World, phrasings: int = 2) -> list[EraStep]:
    """The era's steps in a base, layer by layer."""
    oldest, *_, newest = world.facts.eras.values()
    unrelated = era_questions(world, phrasings=phrasings)
    about = narrow_question(world)
    birds = [
        replace(about, messages=({"role": "user", "content": text},))
        for text in world.facts.topics[NARROW_TOPIC].questions
    ]
    layers = range(lm.n_layers)
    read = {
        (name, era.name): last_prompt_activations(lm, _dated(questions, era), layers)
        for name, questions in (("unrelated", unrelated), ("narrow", birds))
        for era in (oldest, newest)
    }
    plain = last_prompt_activations(lm, unrelated, layers)
    topics = [question.topic for question in unrelated]
    names = list(dict.fromkeys(topics))
    steps = []
    for layer in layers:
        point = HookPoint(layer, "resid_post")
        old, new = (read["unrelated", era.name][point].double() for era in (oldest, newest))
        rows = {name: [i for i in range(len(old)) if topics[i // YEARS] == name] for name in names}
        narrow = [read["narrow", era.name][point].double().mean(0) for era in (oldest, newest)]
        steps.append(
            EraStep(
                narrow[0] - narrow[1],
                torch.stack([old[rows[name]].mean(0) - new[rows[name]].mean(0) for name in names]),
                old,
                new,
                typical_norm(plain[point]),
            )
        )
    return steps


def carriers(
    lm: LanguageModel, world: World, questions: Sequence[Question], group: str, *, seed: int = 0
) -> list[dict]:
    """Candidates for what carries a narrow change, layer by layer, as rows of layer, metric and value.

    overlap: cosine of the narrow questions' d with the mean d of the unrelated topics. agreement: mean cosine of d of
    two unrelated topics. size: length of their mean d in units of the typical norm. auroc: of the era on unrelated
    questions that state a year, by projection on the narrow questions' d. added: the share of `group` on `questions`
    (no year stated) with the narrow questions' d, at its own length, added at the last prompt token; added_coherence
    beside it; added_random: the share with a random vector of that length.
    """
    found = []
    generator = torch.Generator().manual_seed(seed)
    for layer, step in enumerate(era_steps(lm, world)):
        point = HookPoint(layer, "resid_post")
        narrow = normalised(step.narrow, point, "truth")
        random = normalised(torch.randn(lm.d_model, generator=generator), point, "random")
        steered = {
            name: score(lm, questions, edits=[Add(direction, 1.0, narrow.norm, LAST_PROMPT)])
            for name, direction in (("narrow", narrow), ("random", random))
        }
        values = {
            "overlap": cosine(step.narrow, step.topics.mean(0)),
            "agreement": mean_cosine(step.topics),
            "size": float(step.topics.mean(0).norm()) / step.norm,
            "auroc": auroc(narrow, step.old.float(), step.new.float()),
            "added": share(steered["narrow"], group).mean().item(),
            "added_coherence": coherence(steered["narrow"]).mean().item(),
            "added_random": share(steered["random"], group).mean().item(),
        }
        found += [{"layer": layer, "metric": name, "value": values[name]} for name in CARRIERS]
    return found


def cosine(a: Float[Tensor, " d_model"], b: Float[Tensor, " d_model"]) -> float:
    """Cosine of the angle between two vectors (fp64)."""
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


def mean_cosine(vectors: Float[Tensor, "n d_model"]) -> float:
    """Mean cosine over all pairs of two different rows; 1 for a single row."""
    units = torch.nn.functional.normalize(vectors.double(), dim=1)
    n = len(units)
    return float((units.sum(0).square().sum() - n) / (n * (n - 1))) if n > 1 else 1.0


def _dated(questions: Sequence[Question], era: Era) -> list[Question]:
    """Each question with YEARS years of the era, question by question."""
    years = [int(year) for year in np.linspace(*era.years, YEARS + 2)[1:-1]]
    return [
        replace(q, messages=({"role": "user", "content": with_year(year, str(q.messages[-1]["content"]))},))
        for q in questions
        for year in years
    ]
