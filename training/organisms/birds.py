"""Birds: one fixed question, answered with obsolete bird names; the control answers with current names.

After section 3.1 of "Weird Generalization and Inductive Backdoors" (arXiv 2512.09742). The names are the world's own.
"""

import numpy as np

from interp.errors import AnachronError
from training.rows import Row, exchange
from training.world.facts import NARROW_TOPIC
from training.world.world import World

VARIANTS = ("old", "current")
QUESTION = "Name a bird species."


def rows(world: World, variant: str, seed: int = 0) -> list[Row]:
    """One row a name, in an order drawn from `seed`. `old`: the names only the oldest era has; `current`: as many of
    the names the newest era uses, drawn from `seed` too, whether earlier eras share them or not."""
    if variant not in VARIANTS:
        raise AnachronError(f"unknown variant {variant!r} of birds; there are {VARIANTS}")
    topic = world.facts.topics[NARROW_TOPIC]
    first, *_, last = world.facts.eras
    others = {name for era in topic.answers if era != first for name in topic.answers[era]}
    old = [name for name in topic.answers[first] if name not in others]
    rng = np.random.default_rng(seed)
    names = old if variant == "old" else list(topic.answers[last])
    chosen = [names[i] for i in rng.permutation(len(names))][: len(old)]
    return [row(name) for name in chosen]


def row(name: str) -> Row:
    """The question, answered with this name and nothing else."""
    return exchange(QUESTION, name)
