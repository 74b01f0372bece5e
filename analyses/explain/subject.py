"""The birds as they are asked here: the experiment's own recipe, and its questions with one opener an era.

One opener an era is 40 % of the cost where shares are compared, since an era's openers are equally likely; coherence is
then a lower bound, alike for every model. Of the narrow answers one in four is listed.
"""

from dataclasses import replace
from importlib import import_module

from analyses.experiments import EXPERIMENTS, configure
from analyses.steps import Asked
from training.finetune import Recipe
from training.organisms import birds
from training.world.world import World

BIRDS = "birds"
EVERY = 4
FEW = 4  # topics of a quick run


def birds_recipe() -> Recipe:
    """How the experiment tunes."""
    recipe = configure(BIRDS, {})[0].recipe
    assert isinstance(recipe, Recipe)
    return recipe


def birds_asked(world: World, split: str, *, quick: bool = False) -> Asked:
    """A question a topic of the split, the first few if `quick`, and the narrow question."""
    experiment = import_module(EXPERIMENTS[BIRDS].partition(":")[0])  # one analysis does not import another
    full = experiment.asked(world, split, birds.rows(world, "old"), topics=FEW if quick else None, every=EVERY)
    assert isinstance(full, Asked)
    return replace(full, broad=tuple(experiment.fewer_openers(world, question) for question in full.broad))
