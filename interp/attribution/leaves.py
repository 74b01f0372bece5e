"""The leaves of several answer trees as tensors, and the log-odds of two sides of them: differentiable, in fp64."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from interp.behavior.questions import Question
from interp.behavior.scoring import Row


@dataclass(frozen=True, eq=False)
class Leaves:
    """The leaves of all rows of a part: `path[k]` indexes the looked-up log-probabilities (one past them: 0), `cell[k]`
    is 2 item + side, of leaves on either side only."""

    look_up: Int[Tensor, "3 looked_up"]
    path: Int[Tensor, "leaves depth"]
    end_leaf: Int[Tensor, " ends"]
    end: Int[Tensor, " ends"]
    open: Bool[Tensor, " leaves"]
    cell: Int[Tensor, " leaves"]


def gather(
    rows: Sequence[Row], items: Sequence[int], questions: Sequence[Question], sides: Sequence[tuple[str, ...]]
) -> Leaves:
    """The leaves of these rows, item by item of `items`, on the two sides of the log-odds (each some groups)."""
    side_of = {group: side for side, groups in enumerate(sides) for group in groups}
    depth = max(row.tree.leaf_edges.shape[1] for row in rows)
    n_edges = sum(len(row.tree.edge_tokens) for row in rows)
    total = n_edges + sum(len(row.tree.end_tokens) for row in rows)
    look_ups: list[np.ndarray] = []
    ends: list[np.ndarray] = []
    paths, end_leaves, opens, cells = [], [], [], []
    edges_before = ends_before = leaves_before = 0
    for r, row in enumerate(rows):
        tree = row.tree
        edges = len(tree.edge_tokens)
        look_ups.append(np.stack([np.full(edges, r), tree.edge_slots, tree.edge_tokens]))
        ends.append(np.stack([np.full(len(tree.end_tokens), r), tree.end_slots, tree.end_tokens]))
        path = np.full((len(tree.leaf_groups), depth), total)
        own = path[:, : tree.leaf_edges.shape[1]]
        own[:] = np.where(tree.leaf_edges < edges, tree.leaf_edges + edges_before, total)
        paths.append(path)
        end_leaves.append(tree.end_leaves + leaves_before)
        opens.append(tree.leaf_open)
        groups = list(questions[row.question].answers)
        place = items.index(row.question)
        # leaves on neither side go to a cell of their own, one past all others
        columns = [2 * place + side_of[g] if g in side_of else 2 * len(items) for g in groups]
        cells.append(np.array(columns)[tree.leaf_groups])
        edges_before, ends_before = edges_before + edges, ends_before + len(tree.end_tokens)
        leaves_before += len(tree.leaf_groups)
    arrays = (
        np.concatenate([*look_ups, *ends], axis=1),
        np.concatenate(paths),
        np.concatenate(end_leaves),
        np.arange(n_edges, total),
        np.concatenate(opens),
        np.concatenate(cells),
    )
    return Leaves(*(torch.from_numpy(array) for array in arrays))


def side_log_odds(logits: Tensor, leaves: Leaves, n_items: int) -> Float64[Tensor, " items"]:
    """scoring's sum over leaves, as logarithms, in fp64."""
    row, slot, token = leaves.look_up.to(logits.device)
    picked = logits[row, slot, token].float() - torch.logsumexp(logits.float(), dim=-1)[row, slot]
    values = torch.cat([picked.double().cpu(), torch.zeros(1, dtype=torch.float64)])
    ended = leaves.open.double().index_add(0, leaves.end_leaf, values[leaves.end].exp())
    leaf = values[leaves.path].sum(-1) + ended.log()
    cells = _log_sums(leaf, leaves.cell, 2 * n_items + 1)
    return cells[0 : 2 * n_items : 2] - cells[1 : 2 * n_items : 2]


def _log_sums(values: Float64[Tensor, " n"], cell: Int[Tensor, " n"], n_cells: int) -> Float64[Tensor, " n_cells"]:
    """log sum exp of the values of each cell, -infinity where there are none."""
    with torch.no_grad():
        top = torch.full((n_cells,), -torch.inf, dtype=torch.float64).scatter_reduce(0, cell, values, "amax")
        top = torch.where(torch.isfinite(top), top, 0.0)
    return torch.zeros(n_cells, dtype=torch.float64).index_add(0, cell, (values - top[cell]).exp()).log() + top
