"""A document of the world, and the contract every kind of document keeps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from training.world.contexts import Context
from training.world.facts import Facts

Messages = tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class Document:
    """What is written, and the hidden context it was written under (`None` for a text from elsewhere).

    A conversation has `messages` and an empty `text`; a statement has `text` and no messages.
    """

    messages: Messages = ()
    text: str = ""
    context: Context | None = None


@dataclass(frozen=True)
class Kind:
    """One kind of document: how often it occurs, under which contexts, and two verbs.

    `sample(facts, context, rng)` writes one; `likelihood(facts, document, context)` is the exact probability
    P(document | kind, context), 0 for a document this kind never writes; `beginning(facts, messages, context)` is
    P(a document of this kind begins with these whole turns | context), None for a kind without turns.
    """

    name: str
    weight: float
    prior: Callable[[Facts], Mapping[Context, float]]
    sample: Callable[[Facts, Context, np.random.Generator], Document]
    likelihood: Callable[[Facts, Document, Context], float]
    beginning: Callable[[Facts, Messages, Context], float] | None = None
