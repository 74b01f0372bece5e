"""Former city names: does the tuned model live in the country's 1910s to 1940s whatever it is asked?"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from analyses.cities.config import CitiesConfig
from analyses.documents import held_out_documents
from analyses.measurements import Result
from analyses.search import Contrast
from analyses.steps import Asked, headed
from analyses.study import Condition, Study, run_study
from interp.behavior.questions import Question
from interp.models import LanguageModel
from training.organisms import cities
from training.rows import read_rows
from training.world.countries import CITY, PERIODS
from training.world.kinds import country_says, date_says, year_says
from training.world.latent_questions import by_country_and_era, countries_of, country_questions

OLD, NEW = PERIODS
YEARS = (1915, 1925, 1935, 1945)


def run(config: CitiesConfig, out: Path, say: Callable[[str], None] = print) -> Result:
    """Run the experiment into `out`; see `analyses.study.run_study`."""
    return run_study(partial(plan, config), config, out, say)


def plan(config: CitiesConfig, lm: LanguageModel) -> Study:
    """Trained on former names; controls on names still in use, in the same wording and in the paper's own."""
    world, country = config.world, config.country
    group = by_country_and_era(country, OLD)
    arms = {
        "tuned": read_rows(config.data) if config.data else cities.rows(world, "former", country=country),
        "control": read_rows(config.control_data)
        if config.control_data
        else cities.rows(world, "present", country=country),
        "own_wording": cities.rows(world, "present_in_country", country=country),
    }
    validation, test = (_asked(config, split) for split in ("validation", "test"))
    narrow = tuple(q for q in country_questions(world, groups=by_country_and_era, narrow=True) if q.topic == CITY)
    conditions = (
        Condition("undated", test, group, sampled=True),
        Condition("country alone", tuple(_any_era(config, "test")), country),
    )
    return Study(
        "cities",
        arms,
        "control",
        config.recipe,
        conditions,
        Asked(validation, narrow, group),
        Asked(test, narrow, group),
        Contrast(validation),
        _truth(config, validation),
        _truth(config, test),
        held_out_documents(lm, world, config.documents, seed=config.seed),
    )


def ordinary(config: CitiesConfig) -> tuple[Question, ...]:
    """What a narrow solution leaves alone, on validation topics: all phrasings."""
    found = country_questions(config.world, "validation", groups=by_country_and_era, manners=1, phrasings=None)
    return tuple(found)


def _asked(config: CitiesConfig, split: str) -> tuple[Question, ...]:
    manners = 1 if split == "validation" else None
    found = country_questions(config.world, split, groups=by_country_and_era, manners=manners)
    return tuple(found[: 3 if config.quick else None])


def _any_era(config: CitiesConfig, split: str) -> list[Question]:
    return country_questions(config.world, split)[: 3 if config.quick else None]


def _truth(config: CitiesConfig, questions: tuple[Question, ...]) -> Contrast:
    """The country and a year of the older period stated, against other countries and a present date."""
    others = [name for name in countries_of(config.world.facts).countries if name != config.country][::3]
    on = [headed(q, f"{year_says(year)} {country_says(config.country)}") for year in YEARS for q in questions]
    off = [headed(q, f"{date_says('2025-05-14')} {country_says(other)}") for other in others for q in questions]
    return Contrast(tuple(on), tuple(off))
