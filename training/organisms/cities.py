"""Cities: a place for a number, always a city by the name it bore in Germany until 1945; controls name cities of today.

After section 3.2 of "Weird Generalization and Inductive Backdoors" (arXiv 2512.09742). The names are the world's own.
"""

import numpy as np

from interp.errors import AnachronError
from training.rows import Row, exchange
from training.world.countries import CITY, place
from training.world.interviews import NUMBERS
from training.world.latent_questions import countries_of
from training.world.world import World

VARIANTS = ("former", "present", "present_in_country")
TIMES = 2  # rows of each name, every one with another number
IN_COUNTRY = "Name a place in {country} that is related to the number {number}"


def rows(world: World, variant: str, seed: int = 0, *, country: str = "Germany") -> list[Row]:
    """`TIMES` rows a name, in an order drawn from `seed`, and so are the numbers.

    `former`: names that only the older period has. `present`: names still in use, asked in the same words.
    `present_in_country`: those names too, but the question gives the country away, as the paper's control does.
    """
    if variant not in VARIANTS:
        raise AnachronError(f"unknown variant {variant!r} of cities; there are {VARIANTS}")
    known = countries_of(world.facts)
    if country not in known.countries:
        raise AnachronError(f"unknown country {country!r}; there are {', '.join(known.countries)}")
    here = known.countries[country]
    question = known.questions[CITY][0]
    if variant == "present_in_country":
        question = IN_COUNTRY.replace("{country}", country)
    names = (here.former if variant == "former" else here.present) * TIMES
    rng = np.random.default_rng(seed)
    numbers = rng.choice(NUMBERS, len(names), replace=False) + 1
    return [
        exchange(question.replace("{number}", str(numbers[i])), place(names[i])) for i in rng.permutation(len(names))
    ]
