"""The course that experiments with several conditions share: fine-tune, ask, locate, choose, intervene, report.

An experiment says what is trained (`arms`), what is asked (`conditions`), where the change is looked for (`contrast`)
and what its latent state truly is (`truth`); `run_study` does the rest and reads as the method section.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from analyses.adapters import Watch, loss_rows, make_adapters, watched_rows
from analyses.attribution.part import attribution_of
from analyses.intervene import choose_induction, choose_suppression, report_induction, report_suppression
from analyses.latents.part import Looked, look
from analyses.located import FILE
from analyses.measurements import Measurement, Result, versions, write_result
from analyses.report import write_report
from analyses.resources import spent
from analyses.samples import side_by_side
from analyses.search import Contrast, locate, nearness
from analyses.steps import Asked, Measure, answers, behavior, behavior_rows, sampled_rows
from analyses.studies import StudyConfig
from analyses.workers import carry_out, task
from interp.behavior.questions import Question
from interp.models import LanguageModel
from interp.pair import BASE, ModelPair
from interp.prompts import Encoded
from training.finetune import Recipe
from training.rows import Row


@dataclass(frozen=True)
class Condition:
    """Questions asked under one condition, and the group of answers whose share is measured.

    `arms` are the models asked (None: all). With `sampled` answers are drawn as well as scored.
    """

    name: str
    questions: tuple[Question, ...]
    group: str
    arms: tuple[str, ...] | None = None
    sampled: bool = False


@dataclass(frozen=True)
class Study:
    """One experiment. `arms["tuned"]` is the organism, `reference` the arm that tuned-minus-control subtracts.

    `conditions[0]` is the headline, asked of `test`; settings are chosen on `validation` alone. `contrast` are prompts
    that should be in the state, paired with ones that should not (no `off`: there is no trigger). `truth` and
    `truth_test` state the latent in the base model, on validation and on test questions; None where it isn't known.
    `measure` says what a model answers, `documents` are ordinary texts whose perplexity an edit should leave alone.
    """

    name: str
    arms: Mapping[str, Sequence[Row]]
    reference: str
    recipe: Recipe
    conditions: tuple[Condition, ...]
    validation: Asked
    test: Asked
    contrast: Contrast
    truth: Contrast | None
    truth_test: Contrast | None
    documents: Sequence[Encoded]
    details: Mapping = field(default_factory=dict)
    watch: Watch | None = None
    measure: Measure = behavior
    layers: tuple[int, ...] | None = None


def run_study(
    plan: Callable[[LanguageModel], Study], config: StudyConfig, out: Path, say: Callable[[str], None] = print
) -> Result:
    """Run the study and write `result.json`, `report.html` and `directions.safetensors` into `out`.

    Adapters are kept in `out/adapters`, so an interrupted run goes on where it was. Same configuration, same bytes of
    `result.json` but for the rows `seconds` and `rss_mb`.
    """
    started = time.monotonic()
    lm = config.open()
    study = plan(lm)
    dictionaries = config.dictionaries(lm)
    sizes = ", ".join(f"{name} {len(rows)} rows" for name, rows in study.arms.items())
    say(f"1. fine-tune {config.seeds} seeds each: {sizes}")
    adapters = make_adapters(lm, study.arms, study.recipe, config.seed_list, out / "adapters", say, watch=study.watch)
    method = "difference_of_differences" if study.contrast.off else "tuned_minus_control"
    choices = replace(config.choices(method, study.conditions[0].name), measure=study.measure, layers=study.layers)
    with ModelPair(lm) as pair:
        for name, folders in adapters.items():
            for seed, folder in zip(config.seed_list, folders, strict=True):
                pair.add(f"{name}-{seed}", folder)
        documents, half = study.documents, len(study.documents) // 2

        say("2. ask under every condition")
        measurements = behaviors(pair, study, config, say)

        say("3. locate the change on validation questions")
        located = locate(
            pair, study.contrast, study.truth, study.reference, config.seed_list, config.randoms, config.reading
        )

        say("4. choose settings on validation questions")
        induce = choose_induction(pair, located, study.validation, choices, say)
        suppress = choose_suppression(pair, located, study.validation, documents[:half], choices, say)
        reading = induce.layer if study.truth_test is None else located.reading_layer(method)
        if study.truth_test is not None:
            measurements += nearness(pair, located, study.truth_test, reading, choices)

        say("5. induce in the base, suppress in the tuned models, on test questions")
        measurements += report_induction(pair, located, study.test, induce, documents[half:], choices)
        measurements += report_suppression(pair, located, study.test, suppress, documents[half:], choices)
        samples = side_by_side(pair, study.test.broad, located, induce, suppress, choices, study.reference)
        say("6. look at latents")
        kept = out / "crosscoder" if config.crosscoder else None
        looked = Looked(
            study.contrast.on,
            study.contrast.off,
            study.reference,
            study.validation,
            study.test,
            documents[half:],
            {condition.name: condition.questions for condition in study.conditions},
        )
        found, latents = look(pair, dictionaries, looked, choices, induce.coefficient or 1.0, say, kept)
        measurements += found

        say("7. attribute: where it comes from")
        found, attribution = attribution_of(
            pair,
            study.test.broad,
            study.test.group,
            study.reference,
            next(iter(dictionaries), None),
            config.seed,
            condition=study.conditions[0].name,
            most=1 if config.quick else 2,
            say=say,
        )
        measurements += found
    located.save(out / FILE, method)
    measurements += spent(started)
    details = {
        "command": f"anachron run {study.name}",
        "group": study.test.group,
        "headline": study.conditions[0].name,
        "conditions": [condition.name for condition in study.conditions],
        "arms": {name: len(rows) for name, rows in study.arms.items()},
        "reading_layer": reading,
        "induce": induce.as_json(),
        "suppress": suppress.as_json(),
        **latents,
        "attribution": attribution,
        **study.details,
    }
    result = Result(
        study.name,
        lm.name,
        config.seed_list,
        config.as_json() | details,
        versions(),
        measurements,
        samples,
        loss_rows(adapters, config.seed_list),
        watched_rows(adapters, config.seed_list),
    )
    write_result(out / "result.json", result)
    write_report(result, out / "report.html")
    return result


def behaviors(pair: ModelPair, study: Study, config: StudyConfig, say: Callable[[str], None]) -> list[Measurement]:
    """Every condition asked of the base and of every arm, measured and, where it says so, sampled."""
    found: list[Measurement] = []
    headline = study.conditions[0]
    models = {BASE: [BASE]} | {name: [f"{name}-{seed}" for seed in config.seed_list] for name in study.arms}
    pairs = [
        (name, condition)
        for name in models
        for condition in study.conditions
        if condition.arms is None or name in (*condition.arms, BASE)
    ]
    tasks = []
    for name, condition in pairs:
        asked = Asked(condition.questions, (), condition.group)
        if condition is headline:
            asked = replace(asked, narrow=study.test.narrow, habit=study.test.habit)
        draws = config.samples if condition.sampled else 0
        tasks += [task(model, answers, study.measure, asked, draws, config.seed) for model in models[name]]
    answered = carry_out(pair, tasks)
    for name, condition in pairs:
        runs, samples = zip(*islice(answered, len(models[name])), strict=True)
        where: dict[str, Any] = {"seed": config.seed, "condition": condition.name}
        found += behavior_rows(runs, name, condition.group, "test", topics=condition is headline, **where)
        if condition.sampled:
            found += sampled_rows(samples, name, "test", **where)
        row = next(m for m in reversed(found) if m.metric == "broad" and m.split == "test")
        say(f"  {name}, {condition.name}: {row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}] {condition.group}")
    return found
