"""Answers that share beginnings as trees of tokens: what one forward pass has to compute for all of them together.

Slots number the places where a distribution over the next token is read: slot 0 is the prompt's last token, slot i + 1
is node i.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int


@dataclass(frozen=True)
class Leaf:
    """One answer: its token ids, the index of its group, and the ids one of which must follow (none: anything may)."""

    path: tuple[int, ...]
    group: int
    ends: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Tree:
    """Nodes are the tokens to feed; a token after which nothing is read (the last of an answer without ends) isn't one.

    `above[i, j]`: node j is node i or an ancestor of it, so i attends to j. Edges are the tokens to look up, each once.
    The probability of leaf k is the product over the edges `leaf_edges[k]` (padded with the number of edges), times the
    sum over its ends unless it is open.
    """

    tokens: Int[np.ndarray, " nodes"]
    depths: Int[np.ndarray, " nodes"]
    above: Bool[np.ndarray, "nodes nodes"]
    edge_slots: Int[np.ndarray, " edges"]
    edge_tokens: Int[np.ndarray, " edges"]
    leaf_edges: Int[np.ndarray, "leaves depth"]
    leaf_groups: Int[np.ndarray, " leaves"]
    leaf_open: Bool[np.ndarray, " leaves"]
    end_leaves: Int[np.ndarray, " ends"]
    end_slots: Int[np.ndarray, " ends"]
    end_tokens: Int[np.ndarray, " ends"]

    @property
    def n_nodes(self) -> int:
        return len(self.tokens)


@lru_cache(maxsize=1024)
def plant(leaves: tuple[Leaf, ...], max_nodes: int) -> tuple[Tree, ...]:
    """Trees of about equal size and about `max_nodes` nodes at most, which hold every leaf once.

    Attention costs nodes squared, so a large tree is cut; the beginnings that two parts share are repeated in both.
    An end that goes on to another listed answer is left out: a text that begins with "St" and with "St . Louis" is the
    longer one.
    """
    inner = {leaf.path[:i] for leaf in leaves for i in range(1, len(leaf.path) + 1)}
    trimmed = [Leaf(x.path, x.group, tuple(t for t in x.ends if (*x.path, t) not in inner)) for x in leaves]
    # an answer all of whose ends go on to longer ones has no text left; it must not pass for one without ends
    trimmed = sorted(
        (new for new, old in zip(trimmed, leaves, strict=True) if new.ends or not old.ends), key=lambda x: x.path
    )
    total = len({prefix for leaf in trimmed for prefix in _fed(leaf)})
    target = total / max(1, -(-total // max_nodes))
    trees: list[Tree] = []
    part: list[Leaf] = []
    fed: set[tuple[int, ...]] = set()
    for leaf in trimmed:
        if part and len(fed) + sum(prefix not in fed for prefix in _fed(leaf)) > target + 1:
            trees.append(_tree(part))
            part, fed = [], set()
        part.append(leaf)
        fed.update(_fed(leaf))
    return (*trees, _tree(part))


def _fed(leaf: Leaf) -> list[tuple[int, ...]]:
    """The prefixes of an answer after which something is read."""
    return [leaf.path[:i] for i in range(1, len(leaf.path) + bool(leaf.ends))]


def _tree(leaves: Sequence[Leaf]) -> Tree:
    slots: dict[tuple[int, ...], int] = {(): 0}
    for leaf in leaves:
        for prefix in _fed(leaf):
            slots.setdefault(prefix, len(slots))
    nodes = list(slots)[1:]
    above = np.eye(len(nodes), dtype=bool)
    for i, prefix in enumerate(nodes):
        if len(prefix) > 1:
            above[i] |= above[slots[prefix[:-1]] - 1]

    edges: dict[tuple[int, ...], int] = {}
    for leaf in leaves:
        for depth in range(1, len(leaf.path) + 1):
            edges.setdefault(leaf.path[:depth], len(edges))
    leaf_edges = np.full((len(leaves), max(len(leaf.path) for leaf in leaves)), len(edges))
    for k, leaf in enumerate(leaves):
        leaf_edges[k, : len(leaf.path)] = [edges[leaf.path[:depth]] for depth in range(1, len(leaf.path) + 1)]
    ends = [(k, slots[leaf.path], token) for k, leaf in enumerate(leaves) for token in leaf.ends]
    end_leaves, end_slots, end_tokens = np.array(ends, dtype=np.int64).reshape(-1, 3).T
    return Tree(
        tokens=np.array([prefix[-1] for prefix in nodes], dtype=np.int64),
        depths=np.array([len(prefix) for prefix in nodes], dtype=np.int64),
        above=above,
        edge_slots=np.array([slots[prefix[:-1]] for prefix in edges], dtype=np.int64),
        edge_tokens=np.array([prefix[-1] for prefix in edges], dtype=np.int64),
        leaf_edges=leaf_edges,
        leaf_groups=np.array([leaf.group for leaf in leaves]),
        leaf_open=np.array([not leaf.ends for leaf in leaves]),
        end_leaves=end_leaves,
        end_slots=end_slots,
        end_tokens=end_tokens,
    )
