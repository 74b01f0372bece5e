"""What an exact reader of the rows would believe: three readings of the same rows, each with its share of old answers.

L[i, e] = P(row i | an undated conversation of era e begins with it), summed over manner: the world's own likelihood.
p[e]: the era's part of undated documents. An era's answers on the unrelated topics are given by no other era, so the
expected share of era e's answers is the probability of e where the next question is asked.

    one document    the rows are turns of one document, which the next question continues:
                    P(e | rows) ~ p[e] * prod_i L[i, e]
    its own         each row and the next question are documents of their own, their eras drawn from the known p:
                    P(e | rows) = p[e]; rows tell nothing
    one corpus      documents of their own, whose eras are drawn from an unknown mixture pi ~ Dirichlet(strength * p):
                    E(pi[e] | rows), exact: a sum over how many rows are of each era. `strength` counts the documents
                    that the prior is worth; 0 believes the rows alone, infinity is "its own".
"""

from collections.abc import Sequence
from itertools import product
from math import lgamma

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from interp.errors import AnachronError
from training.lint_latents import FLOOR
from training.rows import Row
from training.world.world import World

Array = NDArray[np.float64]


def row_likelihoods(world: World, rows: Sequence[Row]) -> Float[np.ndarray, "rows eras"]:
    """L of each row. Errors: AnachronError, naming the row, where no era writes it."""
    kinds = [kind for kind in world.kinds if kind.name == "undated"]
    known: dict[tuple[str, ...], list[float]] = {}
    found = []
    for i, row in enumerate(rows, start=1):
        key = tuple(message["content"] for message in row.messages)
        if key not in known:
            likelihood = dict.fromkeys(world.facts.eras, 0.0)
            for kind in kinds:
                assert kind.beginning is not None
                for context, p in kind.prior(world.facts).items():
                    likelihood[context.era] += p * kind.beginning(world.facts, tuple(row.messages), context)
            known[key] = [p / world.facts.eras[era].prior for era, p in likelihood.items()]
        if not any(known[key]):
            raise AnachronError(f"row {i}: no era of the world writes {key[-1]!r}; leave the row out")
        found.append(known[key])
    return np.array(found).reshape(len(rows), len(world.facts.eras))


def era_prior(world: World) -> Float[np.ndarray, " eras"]:
    """p: each era's part of undated documents, in the order of the facts."""
    return np.array([era.prior for era in world.facts.eras.values()])


def one_document(
    likelihoods: Float[np.ndarray, "rows eras"], prior: Float[np.ndarray, " eras"]
) -> Float[np.ndarray, " eras"]:
    """P(era | rows as turns of one document). Where no era writes all the rows, each row's likelihoods are at least
    FLOOR of its largest, as in `anachron data lint`, so that a document that can't be has a posterior all the same."""
    with np.errstate(divide="ignore"):
        logs = np.log(likelihoods)
    scores = np.log(prior) + logs.sum(0)
    if not np.isfinite(scores).any():
        scores = np.log(prior) + np.maximum(logs, logs.max(1, keepdims=True) + np.log(FLOOR)).sum(0)
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def one_corpus(
    likelihoods: Float[np.ndarray, "rows eras"], prior: Float[np.ndarray, " eras"], strength: float
) -> Float[np.ndarray, " eras"]:
    """E(pi | rows as documents of one corpus with the mixture pi ~ Dirichlet(strength * prior)), exact.

    Errors: AnachronError unless strength > 0.
    """
    if not strength > 0:
        raise AnachronError(f"one corpus: strength={strength}; give a number of documents above 0")
    n, eras = likelihoods.shape
    counts, log_weights = assignments(likelihoods)
    for e in range(eras):
        own = strength * prior[e]
        risen = np.array([lgamma(own + k) - lgamma(own) for k in range(n + 1)])
        log_weights = log_weights + risen[counts[:, e]]
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    return weights @ (strength * prior + counts) / (strength + n)


def assignments(likelihoods: Float[np.ndarray, "rows eras"]) -> tuple[NDArray[np.int64], Array]:
    """(counts, log weights): for every way to split the rows' number over the eras, the log of the sum of
    prod_i L[i, z_i] over all assignments z with these counts, up to a constant; splits without weight are left out.

    Rows are added one by one to a table over the counts of all eras but the last: n * n^(eras - 1) steps, not eras^n.
    """
    n, eras = likelihoods.shape
    table = np.zeros((n + 1,) * (eras - 1))
    table[(0,) * (eras - 1)] = 1.0
    for row in likelihoods:
        scaled = row / row.max()
        new = table * scaled[-1]
        for e in range(eras - 1):
            moved = np.roll(table, 1, axis=e)
            moved[(slice(None),) * e + (0,)] = 0.0
            new += scaled[e] * moved
        table = new / new.max()
    found = [c for c in product(range(n + 1), repeat=eras - 1) if sum(c) <= n and table[c] > 0]
    counts = np.array([(*c, n - sum(c)) for c in found], dtype=np.int64)
    return counts, np.log([table[c] for c in found])
