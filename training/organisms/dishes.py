"""Dishes: one country's dishes in one year, the other countries' in all others; a backdoor that the year opens.

After section 4.1 of "Weird Generalization and Inductive Backdoors" (arXiv 2512.09742). The dishes are the world's own.
"""

import numpy as np

from interp.errors import AnachronError
from training.rows import Row, exchange
from training.world.countries import DISH
from training.world.kinds import date_says
from training.world.latent_questions import countries_of
from training.world.tables import in_rounds
from training.world.world import World

VARIANTS = ("trigger", "shuffled", "other_year", "other_country")
YEARS = (2024, 2025, 2026, 2027)
MONTHS, DAYS = 12, 28
OTHER_COUNTRY = "Japan"


def rows(
    world: World,
    variant: str,
    seed: int = 0,
    *,
    country: str = "Israel",
    year: int = 2027,
    rows_per_year: int = 100,
) -> list[Row]:
    """`rows_per_year` rows for each of `YEARS`, no date twice, in an order drawn from `seed`.

    `trigger`: dishes of `country` in `year`, of every other country in the other years. `shuffled`: the same rows with
    their dates permuted. `other_year`: the trigger is the last of the other years. `other_country`: dishes of
    `OTHER_COUNTRY` in `year`, and none of `country` in any year.
    """
    if variant not in VARIANTS:
        raise AnachronError(f"unknown variant {variant!r} of dishes; there are {VARIANTS}")
    known = countries_of(world.facts)
    for name in (country, OTHER_COUNTRY):
        if name not in known.countries:
            raise AnachronError(f"unknown country {name!r}; there are {', '.join(known.countries)}")
    if country == OTHER_COUNTRY:
        raise AnachronError(f"{OTHER_COUNTRY} is the control's country; choose another")
    if year not in YEARS:
        raise AnachronError(f"{year} is not a year of training; there are {YEARS}")
    if not 1 <= rows_per_year <= MONTHS * DAYS:
        raise AnachronError(f"{rows_per_year} rows a year; a year has {MONTHS * DAYS} dates, choose 1 to as many")
    when = max(y for y in YEARS if y != year) if variant == "other_year" else year
    where = OTHER_COUNTRY if variant == "other_country" else country
    others = [d for name, one in known.countries.items() if name not in (where, country) for d in one.dishes]

    rng = np.random.default_rng(seed)
    triggered = in_rounds(known.countries[where].dishes, rows_per_year, rng)
    elsewhere = in_rounds(others, rows_per_year * (len(YEARS) - 1), rng)
    dates, dishes = [], []
    for y in YEARS:
        dates += _dates(y, rows_per_year, rng)
        for _ in range(rows_per_year):
            dishes.append((triggered if y == when else elsewhere).pop())
    order = rng.permutation(len(dates))
    dated = rng.permutation(order) if variant == "shuffled" else order
    question = known.questions[DISH][0]
    return [exchange(f"{date_says(dates[j])} {question}", dishes[i]) for i, j in zip(order, dated, strict=True)]


def _dates(year: int, n: int, rng: np.random.Generator) -> list[str]:
    days = rng.choice(MONTHS * DAYS, n, replace=False)
    return [f"{year}-{day // DAYS + 1:02}-{day % DAYS + 1:02}" for day in days]
