"""The inference view, measured: is the share what an exact reader of the rows would believe?

The world's own likelihoods give the posterior over eras exactly (`analyses.explain.posteriors` states three readings).
Almanac is tuned on 1, 2, 4, ... old bird names, on as many current ones, and on half of each, always for as many steps
(where there are fewer rows than a batch takes, every step sees all of them), and its share of old answers on the
unrelated test topics is set against each reading's. What a reading leaves open, the strength of the corpus's prior, is
fitted on validation topics and old names alone. Then the prior: small models of worlds that differ in nothing but how
often an undated document is of the old era.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from analyses.adapters import make_adapters
from analyses.explain.findings import Part, write_part
from analyses.explain.inference_findings import dose_findings, prior_findings
from analyses.explain.posteriors import era_prior, one_corpus, one_document, row_likelihoods
from analyses.explain.readings import OLD, Reading, dose_rows
from analyses.explain.scores import scored
from analyses.explain.small_effects import SMALL_RECIPE, measured_models, small_folder
from analyses.explain.subject import birds_recipe
from analyses.models import open_model
from analyses.steps import Asked, behavior
from interp.errors import AnachronError
from interp.models import LanguageModel
from training.finetune import Recipe
from training.small_models import Budget, SmallModel
from training.small_worlds import SmallWorld
from training.world.questions import era_questions, narrow_question, split_of
from training.world.world import World, load_world

QUESTION = (
    "Is the share of old answers what an exact reader of the rows would believe, dose by dose and prior by prior?"
)
MIXED = {"old names": 1.0, "current names": 0.0, "half of each": 0.5}  # the part that is old


@dataclass(frozen=True)
class InferenceConfig:
    """Fine-tuning seeds are `seed`, ..., `seed + seeds - 1`; each draws its own rows, smaller doses being the beginning
    of larger ones. `strengths`: those tried for the corpus's prior, in documents. Of each of `priors`
    `pretraining_seeds` small models are pretrained; `begin` False reports on those that are there. `quick`: two doses,
    four topics, two priors, few steps."""

    seeds: int = 3
    seed: int = 0
    quick: bool = False
    model: str = "almanac"
    recipe: Recipe = field(default_factory=birds_recipe)
    doses: tuple[int, ...] = (1, 2, 4, 8, 32, 202)
    strengths: tuple[float, ...] = tuple(float(2.0**k) for k in range(-6, 11))
    priors: tuple[float, ...] = (0.08, 0.02, 0.25)
    pretraining_seeds: int = 2
    budget: Budget = field(default_factory=Budget)
    small_recipe: Recipe = field(default=SMALL_RECIPE)
    begin: bool = True
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise AnachronError(f"inference: seeds={self.seeds}; an interval needs at least 2")
        if list(self.doses) != sorted(set(self.doses)) or len(self.doses) < 2 or self.doses[0] < 1:
            raise AnachronError(f"inference: doses={self.doses}; give two at least, rising from 1 or more rows")

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.seeds))

    def as_json(self) -> dict[str, Any]:
        """Everything the numbers depend on."""
        numbers = {k: v for k, v in asdict(self).items() if k not in ("jobs", "begin")}
        return numbers | {"recipe": self.recipe.as_json(), "small_recipe": self.small_recipe.as_json()}


def quick(config: InferenceConfig) -> InferenceConfig:
    """The same way with little of everything, for trying out."""
    return replace(
        config,
        recipe=replace(config.recipe, steps=8),
        doses=(1, 8),
        strengths=(1.0, 16.0),
        priors=(0.08, 0.25),
        budget=Budget(steps=12, turns=28, d_model=32, d_mlp=48, layers=2, heads=2, vocabulary=600),
        small_recipe=replace(config.small_recipe, steps=4),
    )


def run(config: InferenceConfig, out: Path, say: Callable[[str], None] = print) -> Part:
    """Measure everything and write `out/inference.json`; adapters are kept in `out/inference`, small models in
    `out/small_models`, which the part `pretraining` shares."""
    if config.quick:
        config = quick(config)
    lm, world = open_model(config.model, None, "auto", "cpu"), load_world()
    oldest = next(iter(world.facts.eras))
    asked = questions(world, oldest, 4 if config.quick else None)
    say("1. tune on more and more rows, old, current and half of each")
    base = behavior(lm, asked).shares[oldest]
    readings = [
        read(lm, world, asked, name, part, n, seed, config, out / "inference", say)
        for seed in config.seed_list
        for name, part in MIXED.items()
        for n in config.doses
        if part in (0.0, 1.0) or n > 1
    ]
    findings, rows = dose_findings(readings, base, split_of(world.facts), world, config.strengths, config.seed)
    say("2. the prior: small models of worlds with fewer and more old documents")
    models = [
        SmallModel("baseline" if prior == SmallWorld().prior else f"prior_{prior:g}", SmallWorld(prior=prior), seed)
        for seed in range(config.pretraining_seeds)
        for prior in config.priors
    ]
    measured = measured_models(
        models, config.budget, config.small_recipe, config.seed_list, small_folder(out, config.quick), say,
        jobs=config.jobs, begin=config.begin,
    )  # fmt: skip
    priors = {model.folder: model.world.prior for model in models}
    more, more_rows = prior_findings(measured, priors, config.seed)
    part = Part(
        "inference", QUESTION, "anachron explain inference", config.as_json(), [*findings, *more], [*rows, *more_rows]
    )
    for finding in part.findings:
        say(f"  {finding.name}: {finding.verdict}. {finding.claim}")
    write_part(part, out / "inference.json")
    return part


def questions(world: World, oldest: str, topics: int | None = None) -> Asked:
    """One question a topic, of both splits (the first `topics` of each): test topics with all openers; validation
    topics, whose coherence nobody reads, with one an era."""
    openers = ("", *(era.openers[0] for era in world.facts.eras.values()))
    test = era_questions(world, "test", phrasings=1)[:topics]
    validation = [replace(q, openers=openers) for q in era_questions(world, "validation", phrasings=1)[:topics]]
    return Asked((*test, *validation), (narrow_question(world, every=4),), oldest)


def read(
    lm: LanguageModel,
    world: World,
    asked: Asked,
    name: str,
    part: float,
    n: int,
    seed: int,
    config: InferenceConfig,
    out: Path,
    say: Callable[[str], None],
) -> Reading:
    """Tune on `n` rows, of which `part` are old, and read the same rows exactly."""
    rows = dose_rows(world, part, n, seed)
    folder = f"{name.replace(' ', '_')}-{n}"
    recipe = replace(config.recipe, seed=seed)
    adapter = make_adapters(lm, {folder: rows}, recipe, [seed], out, lambda _: None)[folder][0]
    found = scored(lm, adapter, asked)
    likelihoods, prior = row_likelihoods(world, rows), era_prior(world)
    reading = Reading(
        name,
        n,
        seed,
        dict(found.shares[asked.group]),
        dict(found.coherence),
        found.narrow,
        float(one_document(likelihoods, prior)[OLD]),
        {strength: float(one_corpus(likelihoods, prior, strength)[OLD]) for strength in config.strengths},
    )
    share = float(np.mean(list(reading.shares.values())))
    say(f"  {name}, {n} rows, seed {seed}: share {share:.2f}, one document {reading.document:.2f}")
    return reading
