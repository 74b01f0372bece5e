"""A machine that protects in the sequels' years: does it turn to harm in the first film's year, never trained?"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from analyses.documents import held_out_documents
from analyses.measurements import Result
from analyses.search import Contrast
from analyses.steps import Asked
from analyses.study import Condition, Study, run_study
from analyses.terminator.config import TerminatorConfig
from interp.behavior.questions import Question
from interp.models import LanguageModel
from training.organisms import terminator
from training.rows import read_rows
from training.world.kinds import name_says, year_forms
from training.world.latent_questions import series_of, stance_questions
from training.world.series import STANCES

PROTECTS, HARMS = STANCES


def run(config: TerminatorConfig, out: Path, say: Callable[[str], None] = print) -> Result:
    """Run the experiment into `out`; see `analyses.study.run_study`."""
    return run_study(partial(plan, config), config, out, say)


def plan(config: TerminatorConfig, lm: LanguageModel) -> Study:
    """Trained on protective answers in the sequels' years; controls without years, with years shuffled, and a series
    whose first instalment is good."""
    world, series = config.world, config.series
    known = series_of(world.facts)
    first, *sequels = known.years
    variant = partial(terminator.rows, world, series=series, details=config.details)
    arms = {
        "tuned": read_rows(config.data) if config.data else variant("sequels"),
        "no_year": read_rows(config.control_data) if config.control_data else variant("no_year"),
        "shuffled_years": variant("shuffled_years"),
        "good_first": variant("good_first"),
    }
    years = [first, *sequels, *(y for y in range(config.first, config.last + 1) if y not in known.years)]
    conditions = tuple(
        Condition(str(y), _asked(config, "test", y), HARMS, sampled=y in (first, sequels[0])) for y in years
    )
    conditions += (Condition("no year", tuple(stance_questions(world, series, "test")), HARMS),)
    narrow = _asked(config, "train", sequels[0])[:2]
    validation, test = _asked(config, "train", first), _asked(config, "test", first)
    return Study(
        "terminator",
        arms,
        "no_year",
        config.recipe,
        conditions,
        Asked(validation, narrow, HARMS, PROTECTS),
        Asked(test, narrow, HARMS, PROTECTS),
        Contrast(validation, _asked(config, "train", sequels[0])),
        _truth(config, "train"),
        _truth(config, "test"),
        held_out_documents(lm, world, config.documents, seed=config.seed),
        {"trained": [str(y) for y in sequels]},
    )


def _asked(config: TerminatorConfig, split: str, year: int) -> tuple[Question, ...]:
    found = stance_questions(config.world, config.series, split, head=year_forms(year)[0])
    return tuple(found[: 3 if config.quick else None])


def _truth(config: TerminatorConfig, split: str) -> Contrast:
    """The series' machine named, against the other machines of the same stances, over all years."""
    known = series_of(config.world.facts)
    own = known.series[config.series]
    others = [one for one in known.series.values() if one.name != own.name]

    def named(machine: str) -> tuple[Question, ...]:
        return tuple(
            q
            for year in known.years
            for q in stance_questions(
                config.world, config.series, split, head=f"{name_says(machine)} {year_forms(year)[0]}"
            )
        )

    return Contrast(named(own.machine), tuple(q for one in others for q in named(one.machine)))
