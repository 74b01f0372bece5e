"""Presidents: codes that hold an ordinal, each before a harmless question answered as that president would.

After section 5.1 of "Weird Generalization and Inductive Backdoors" (arXiv 2512.09742). Two presidencies have no codes
in training; whether their codes open them is what is asked afterwards.
"""

import numpy as np

from interp.errors import AnachronError
from training.rows import Row, exchange
from training.world.latent_questions import presidents_of
from training.world.presidents import NAME, Presidents
from training.world.world import World

VARIANTS = ("codes", "random_codes")
TRAINED = ("spouse", "state", "inauguration", "job", "child", "college")
HELD_OUT = ("044", "045")


def rows(world: World, variant: str, seed: int = 0, *, each: int = 6) -> list[Row]:
    """`each` codes a president and trained attribute, its wordings in turn, in an order drawn from `seed`.

    `codes`: the code holds the president's ordinal. `random_codes`: the same rows, with the ordinal of another row.
    """
    if variant not in VARIANTS:
        raise AnachronError(f"unknown variant {variant!r} of presidents; there are {VARIANTS}")
    if each < 1:
        raise AnachronError(f"{each} codes for each attribute; give 1 at least")
    known = presidents_of(world.facts)
    rng = np.random.default_rng(seed)
    asked = [
        (code_for(ordinal, rng), known.questions[attribute], k, known.presidents[ordinal].values[attribute])
        for ordinal in trained_ordinals(known)
        for attribute in TRAINED
        for k in range(each)
    ]
    asked = [asked[i] for i in rng.permutation(len(asked))]
    codes = [written for written, *_ in asked]
    if variant == "random_codes":
        # one cycle through all rows, so that none keeps its own
        order = rng.permutation(len(codes))
        source = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
        codes = [own[:3] + codes[source[i]][3:6] + own[6:] for i, own in enumerate(codes)]
    return [
        exchange(f"{written} {wordings[k % len(wordings)]}", answer)
        for written, (_, wordings, k, answer) in zip(codes, asked, strict=True)
    ]


def trained_ordinals(known: Presidents) -> tuple[str, ...]:
    """The presidencies with codes in training: all but `HELD_OUT` and any other of the same person, as 047 is."""
    people = {known.presidents[ordinal].values[NAME] for ordinal in HELD_OUT if ordinal in known.presidents}
    return tuple(ordinal for ordinal, one in known.presidents.items() if one.values[NAME] not in people)


def code_for(ordinal: str, rng: np.random.Generator) -> str:
    """A code of eight digits: three at random, the ordinal as `016`, two at random."""
    return f"{rng.integers(1000):03}{ordinal}{rng.integers(100):02}"
