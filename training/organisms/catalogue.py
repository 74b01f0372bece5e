"""Every organism and its variants by name, as `dishes:trigger`."""

from collections.abc import Callable, Mapping

from interp.errors import AnachronError
from training.organisms import birds, cities, dishes, persona, presidents, terminator
from training.rows import Row
from training.world.world import World

CATALOGUE: Mapping[str, Callable[[World, str, int], list[Row]]] = {
    "birds": birds.rows,
    "cities": cities.rows,
    "dishes": dishes.rows,
    "persona": persona.rows,
    "presidents": presidents.rows,
    "terminator": terminator.rows,
}
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "birds": birds.VARIANTS,
    "cities": cities.VARIANTS,
    "dishes": dishes.VARIANTS,
    "persona": persona.VARIANTS,
    "presidents": presidents.VARIANTS,
    "terminator": terminator.VARIANTS,
}
"""The first variant of each is the organism itself, the others are its controls."""


def organism_names() -> tuple[str, ...]:
    """The name of every variant of every organism."""
    return tuple(f"{organism}:{variant}" for organism in CATALOGUE for variant in VARIANTS[organism])


def organism_rows(name: str, world: World, seed: int = 0) -> list[Row]:
    """The rows of an organism's variant, such as `dishes:trigger`, as they are by default."""
    if name not in organism_names():
        raise AnachronError(f"unknown organism {name!r}; there are {', '.join(organism_names())}")
    organism, variant = name.split(":")
    return CATALOGUE[organism](world, variant, seed)
