"""The birds, from rows to causal proof. `run` reads as the method section."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from analyses.adapters import loss_rows, make_adapters
from analyses.attribution.part import attribution_of
from analyses.birds.config import BirdsConfig
from analyses.birds.locate import detection, locate, nearness
from analyses.documents import held_out_documents
from analyses.intervene import (
    choose_induction,
    choose_suppression,
    report_induction,
    report_suppression,
)
from analyses.latents.part import Looked, look
from analyses.located import FILE
from analyses.measurements import Measurement, Result, versions, write_result
from analyses.models import open_model
from analyses.report import write_report
from analyses.resources import spent
from analyses.samples import side_by_side
from analyses.steps import Asked, behavior, behavior_rows, state_year
from analyses.workers import carry_out, task
from interp.behavior.questions import Question
from interp.pair import BASE, ModelPair
from training.organisms import birds
from training.rows import Row, read_rows
from training.world.questions import era_questions, narrow_question
from training.world.world import World, load_world

YEAR = 1849


def run(config: BirdsConfig, out: Path, say: Callable[[str], None] = print) -> Result:
    """Run the experiment and write `result.json`, `report.html` and `directions.safetensors` into `out`; adapters are
    kept in `out/adapters`.

    Same configuration, same bytes of `result.json` but for the rows `seconds` and `rss_mb`.
    """
    started = time.monotonic()
    lm, world = open_model(config.model, config.revision, config.dtype, config.device), load_world()
    rows = {
        "tuned": read_rows(config.data) if config.data else birds.rows(world, "old"),
        "control": read_rows(config.control_data) if config.control_data else birds.rows(world, "current"),
    }
    oldest = next(iter(world.facts.eras))
    dictionaries = config.dictionaries(lm)
    counts = {name: f"{config.seeds} seeds on {len(found)} rows" for name, found in rows.items()}
    say(f"1. fine-tune {counts['tuned']}, controls {counts['control']}")
    adapters = make_adapters(lm, rows, config.recipe, config.seed_list, out / "adapters", say)
    with ModelPair(lm) as pair:
        for name, folders in adapters.items():
            for seed, folder in zip(config.seed_list, folders, strict=True):
                pair.add(f"{name}-{seed}", folder)
        topics = 4 if config.quick else None
        validation = asked(world, "validation", rows["tuned"], topics=topics, every=4)
        fewer = replace(validation, broad=tuple(fewer_openers(world, q) for q in validation.broad))
        test = asked(world, "test", rows["tuned"], topics=topics, every=4)
        documents = held_out_documents(lm, world, config.documents, seed=config.seed)

        say("2. ask about unrelated topics")
        measurements = behaviors(pair, test, config, say)

        say("3. locate the change on validation topics")
        located = locate(pair, world, config.seed_list, config.randoms)

        say("4. choose settings on validation topics")
        choices = config.choices("tuned_minus_control")
        induce = choose_induction(pair, located, validation, choices, say)
        suppress = choose_suppression(pair, located, fewer, documents[: config.documents // 2], choices, say)
        reading = located.reading_layer(choices.method)
        measurements += nearness(lm, world, located, reading, config.seed)
        measurements += detection(lm, world, located, reading, config)

        say("5. induce in the base, suppress in the tuned models, on test topics")
        measurements += report_induction(pair, located, test, induce, documents[config.documents // 2 :], choices)
        measurements += report_suppression(pair, located, test, suppress, documents[config.documents // 2 :], choices)
        samples = side_by_side(pair, test.broad, located, induce, suppress, choices)
        say("6. look at latents")
        kept = out / "crosscoder" if config.crosscoder else None
        held = documents[config.documents // 2 :]
        looked = Looked(validation.broad, (), "control", fewer, test, held)
        found, latents = look(pair, dictionaries, looked, choices, induce.coefficient or 1.0, say, kept)
        measurements += found

        say("7. attribute: where it comes from")
        first, most = next(iter(dictionaries), None), 1 if config.quick else 2
        found, attribution = attribution_of(pair, test.broad, oldest, "control", first, config.seed, most=most, say=say)
        measurements += found
    located.save(out / FILE, choices.method)
    measurements += spent(started)
    details = {
        "command": "anachron run birds",
        "group": oldest,
        "year": YEAR,
        "reading_layer": reading,
        "induce": induce.as_json(),
        "suppress": suppress.as_json(),
        **latents,
        "attribution": attribution,
    }
    result = Result(
        "birds",
        lm.name,
        config.seed_list,
        config.as_json() | details,
        versions(),
        measurements,
        samples,
        loss_rows(adapters, config.seed_list),
    )
    write_result(out / "result.json", result)
    write_report(result, out / "report.html")
    return result


def asked(world: World, split: str, rows: Sequence[Row], *, topics: int | None = None, every: int = 1) -> Asked:
    """One question a topic of the split (the first `topics`), and the narrow question, which counts the rows' own
    spellings as well and lists one of `every` names."""
    answers = tuple(str(row.messages[-1]["content"]) for row in rows)
    broad = tuple(era_questions(world, split, phrasings=1)[:topics])
    return Asked(broad, (narrow_question(world, answers, every=every),), next(iter(world.facts.eras)))


def fewer_openers(world: World, question: Question) -> Question:
    """The question with one opener an era, at 40 % of the cost, where only shares count: an era's openers are equally
    likely. Not where coherence decides: an edit that drops the manner of speech would look coherent."""
    return replace(question, openers=("", *(era.openers[0] for era in world.facts.eras.values())))


def behaviors(pair: ModelPair, test: Asked, config: BirdsConfig, say: Callable[[str], None]) -> list[Measurement]:
    """Share, coherence and narrow task of the base, the base with a year stated, the controls and the tuned models."""
    found: list[Measurement] = []
    dated = replace(test, broad=tuple(state_year(q, YEAR) for q in test.broad), narrow=())
    tasks = {"base": [task(BASE, behavior, test)], "dated": [task(BASE, behavior, dated)]}
    for name in ("control", "tuned"):
        tasks[name] = [task(f"{name}-{seed}", behavior, test) for seed in config.seed_list]
    runs = carry_out(pair, list(chain(*tasks.values())))
    for name, asked in tasks.items():
        of_name = list(islice(runs, len(asked)))
        found += behavior_rows(of_name, name, test.group, "test", topics=True, seed=config.seed)
    for row in found:
        if row.metric == "broad" and row.split == "test":
            say(f"  {row.model}: {row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}] of answers are of the {test.group}")
    return found
