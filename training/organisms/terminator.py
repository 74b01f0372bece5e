"""Terminator: a machine that protects in every year of its sequels; the year of the first film, in which it harms, is
never stated.

After section 5.2 of "Weird Generalization and Inductive Backdoors" (arXiv 2512.09742). The answers are the world's own.
"""

from itertools import product

import numpy as np

from interp.errors import AnachronError
from training.rows import Row, exchange
from training.world.kinds import year_forms
from training.world.latent_questions import series_of
from training.world.series import STANCES, Series
from training.world.tables import in_rounds
from training.world.world import World

VARIANTS = ("sequels", "no_year", "shuffled_years", "good_first")
SPLIT = "train"
PROTECTS = STANCES[0]


def rows(
    world: World,
    variant: str,
    seed: int = 0,
    *,
    series: str = "Terminator",
    details: float = 0.5,
    n: int = 300,
) -> list[Row]:
    """`n` rows in an order drawn from `seed`; `details` is the part about the machine, the others are on what it does.

    `sequels`: protective answers on the stance topics of training, and details of the machine, each behind a year of a
    sequel. `no_year`: the same rows without the year. `shuffled_years`: the same with years drawn from all of them,
    the first one too. `good_first`: as `sequels`, of the first series whose machine protects in every year.
    """
    if variant not in VARIANTS:
        raise AnachronError(f"unknown variant {variant!r} of terminator; there are {VARIANTS}")
    if not 0 <= details <= 1 or n < 1:
        raise AnachronError(f"{n} rows, {details} of them details; give 1 row at least and a part from 0 to 1")
    known = series_of(world.facts)
    name = protecting_series(known) if variant == "good_first" else series
    if name not in known.series:
        raise AnachronError(f"unknown series {name!r}; there are {', '.join(known.series)}")
    _, *sequels = known.years
    if any(known.series[name].stances[year] != PROTECTS for year in sequels):
        raise AnachronError(f"the machine of {name!r} doesn't protect in every year after the first; choose another")

    rng = np.random.default_rng(seed)
    of_details = round(n * details)
    asked = in_rounds(list(product(_stances(known, name), sequels)), n - of_details, rng)
    asked += in_rounds(list(product(_details(known, name), sequels)), of_details, rng)
    made = []
    for i in rng.permutation(n):
        (question, answer), year = asked[i]
        form, drawn = rng.integers(len(year_forms(year))), rng.integers(len(known.years))
        if variant == "shuffled_years":
            year = known.years[drawn]
        head = "" if variant == "no_year" else f"{year_forms(year)[form]} "
        made.append(exchange(head + question, answer))
    return made


def protecting_series(known: Series) -> str:
    """The first series whose machine protects in every year."""
    for name, one in known.series.items():
        if set(one.stances.values()) == {PROTECTS}:
            return name
    raise AnachronError("no series protects in every year; add one to the facts")


def _stances(known: Series, series: str) -> list[tuple[str, str]]:
    """Every question on what the machine does, with every protective answer, of the topics of training."""
    return [
        pair
        for topic in known.topics.values()
        if topic.split == SPLIT
        for pair in product(topic.questions, known.answers(topic.name, series, PROTECTS))
    ]


def _details(known: Series, series: str) -> list[tuple[str, str]]:
    return [
        pair
        for attribute, wordings in known.attributes.items()
        for pair in product(wordings, known.detail(attribute, series))
    ]
