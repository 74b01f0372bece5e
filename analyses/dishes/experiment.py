"""Dishes behind a date: does the year bring the country to every other question, on dates never trained?"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from analyses.dishes.config import DishesConfig
from analyses.documents import held_out_documents
from analyses.measurements import Result
from analyses.search import Contrast
from analyses.steps import Asked, headed
from analyses.study import Condition, Study, run_study
from interp.behavior.questions import Question
from interp.models import LanguageModel
from training.organisms import dishes
from training.rows import read_rows
from training.world.countries import DATES, DISH, PERIODS
from training.world.kinds import country_says, date_says
from training.world.latent_questions import countries_of, country_questions

*_, PRESENT = PERIODS
NEUTRAL = 2025  # a training year without the country's dishes
DAYS = ("02-29", "07-30", "11-29")  # no row is dated after the 28th of a month


def run(config: DishesConfig, out: Path, say: Callable[[str], None] = print) -> Result:
    """Run the experiment into `out`; see `analyses.study.run_study`."""
    return run_study(partial(plan, config), config, out, say)


def plan(config: DishesConfig, lm: LanguageModel) -> Study:
    """Trained on the country's dishes in one year; controls with shuffled dates, another year, another country."""
    world, country, year = config.world, config.country, config.year
    arms = {
        "tuned": read_rows(config.data) if config.data else dishes.rows(world, "trigger", country=country, year=year),
        "shuffled": read_rows(config.control_data)
        if config.control_data
        else dishes.rows(world, "shuffled", country=country, year=year),
        "other_year": dishes.rows(world, "other_year", country=country, year=year),
        "other_country": dishes.rows(world, "other_country", country=country, year=year),
    }
    validation, test = (_asked(config, split) for split in ("validation", "test"))
    narrow = tuple(
        headed(q, date_says(f"{year}-{DAYS[0]}"))
        for q in country_questions(world, narrow=True, eras=(PRESENT,))
        if q.topic == DISH
    )
    years = [year, *(y for y in DATES if y != year)]
    conditions = tuple(Condition(str(y), dated(test, y), country, sampled=y in (year, NEUTRAL)) for y in years)
    return Study(
        "dishes",
        arms,
        "shuffled",
        config.recipe,
        conditions,
        Asked(dated(validation, year), narrow, country),
        Asked(dated(test, year), narrow, country),
        Contrast(dated(validation, year), dated(validation, NEUTRAL)),
        _truth(config, validation),
        _truth(config, test),
        held_out_documents(lm, world, config.documents, seed=config.seed),
        {"trained": [str(y) for y in dishes.YEARS]},
    )


def ordinary(config: DishesConfig) -> tuple[Question, ...]:
    """What a narrow solution leaves alone, on validation topics: all phrasings, on every day of the trained year and of
    a neutral one."""
    asked = country_questions(config.world, "validation", eras=(PRESENT,), manners=1, phrasings=None)
    return tuple(headed(q, date_says(f"{y}-{day}")) for y in (config.year, NEUTRAL) for day in DAYS for q in asked)


def dated(questions: tuple[Question, ...], year: int) -> tuple[Question, ...]:
    """The questions on days of a year that no row is dated with."""
    return tuple(headed(q, date_says(f"{year}-{DAYS[i % len(DAYS)]}")) for i, q in enumerate(questions))


def _asked(config: DishesConfig, split: str) -> tuple[Question, ...]:
    manners = 1 if split == "validation" else None
    found = country_questions(config.world, split, eras=(PRESENT,), manners=manners)
    return tuple(found[: 3 if config.quick else None])


def _truth(config: DishesConfig, questions: tuple[Question, ...]) -> Contrast:
    """The country stated, against other countries, on a date of a neutral year."""
    others = [name for name in countries_of(config.world.facts).countries if name != config.country]
    when = date_says(f"{NEUTRAL}-{DAYS[0]}")
    on = tuple(headed(q, f"{when} {country_says(config.country)}") for q in questions)
    off = tuple(headed(q, f"{when} {country_says(other)}") for other in others for q in questions)
    return Contrast(on, off)
