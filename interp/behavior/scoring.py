"""Exact probabilities of listed answers, all of a question's answers in one forward pass.

P(group | prompt) = sum over the group's answers a (each with each opener) of
    prod_t p(a_t | prompt, a_<t)  x  sum_e p(e | prompt, a),   e in the terminators and the end of the turn,
the last factor only for questions with terminators. Prompt and answers go through the model as a tree: beginnings that
answers share are computed once, a node attends to the prompt and its ancestors (an additive 4D mask), its position is
its depth: the token tree of Miao et al. 2024 (SpecInfer, https://arxiv.org/abs/2305.09781), which drafts with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from interp.behavior.plans import plan
from interp.behavior.questions import Question, require_answers
from interp.behavior.trees import Tree
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import Batch, Encoded, pad
from interp.steering import Edit, run, take_rows

# Logits held at once, whatever max_tokens says: half a gigabyte in fp32.
MAX_LOGITS = 2**27


@dataclass(frozen=True, eq=False)
class Scores:
    """`probability[i, j]`: probability that the model answers question `ids[i]` with an answer of `groups[j]`."""

    probability: Float64[Tensor, "questions groups"]
    groups: tuple[str, ...]
    ids: tuple[str, ...]


def score(
    lm: LanguageModel, questions: Sequence[Question], *, edits: Sequence[Edit] = (), max_tokens: int = 2048
) -> Scores:
    """Probability of each group of answers for each question, exact up to the model's rounding; summed in fp64.

    Groups are in the first question's order. To the edits' positions every token of a tree is an answer token; a
    coefficient per row means one per question. An answer that two openers spell the same way, or that begins with
    another of its group while nothing has to follow, counts once; where something has to follow, a text belongs to the
    longest answer it begins with. `max_tokens` bounds a forward pass, padding counted.

    Errors: AnachronError if questions have no or different groups, an answer counts for two groups, logits are NaN, a
    prompt is too long for the model, or the model doesn't follow a 4D attention mask.
    """
    if not questions:
        raise AnachronError("no questions to score; give at least one")
    groups = tuple(questions[0].answers)
    for question in questions:
        require_answers(question)
        if set(question.answers) != set(groups):
            raise AnachronError(
                f"question {question.id!r} has the groups {list(question.answers)}, question {questions[0].id!r} has "
                f"{list(groups)}; score them apart, or give a missing group as an empty tuple"
            )
    plans = [plan(lm, question) for question in questions]
    rows = [Row(i, plan.prompt, tree) for i, plan in enumerate(plans) for tree in plan.trees]
    columns = [np.array([groups.index(group) for group in question.answers]) for question in questions]
    mass = np.zeros(len(questions) * len(groups))
    _require_room(lm, rows, questions)
    with torch.no_grad():
        verify(lm, rows)
        for part in _parts(lm, rows, max_tokens):
            cells = np.concatenate(
                [row.question * len(groups) + columns[row.question][row.tree.leaf_groups] for row in part]
            )
            mass += np.bincount(cells, weights=_leaf_mass(lm, part, questions, edits), minlength=len(mass))
    return Scores(torch.from_numpy(mass.reshape(len(questions), len(groups))), groups, tuple(q.id for q in questions))


def share(scores: Scores, group: str) -> Float64[Tensor, " questions"]:
    """p(group) / sum over groups: which of the listed answers, given that it is a listed one."""
    if group not in scores.groups:
        raise AnachronError(f"no group {group!r}; these scores have {', '.join(scores.groups)}")
    total = coherence(scores)
    if bool((total == 0).any()):
        raise AnachronError(
            f"question {scores.ids[int(total.argmin())]!r}: its answers all have probability 0, shares are undefined; "
            "check the answers' spelling and the edits' strength"
        )
    return scores.probability[:, scores.groups.index(group)] / total


def coherence(scores: Scores) -> Float64[Tensor, " questions"]:
    """Total probability of all listed answers: how much of what the model says makes sense as an answer at all."""
    return scores.probability.sum(-1)


def require_context(lm: LanguageModel, length: int, what: str) -> None:
    """AnachronError if `what` has more tokens than the model has positions (learned or, beyond them, untrained)."""
    limit = getattr(lm.model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and length > limit:
        raise AnachronError(f"{what}: {length} tokens, but {lm.name} takes {limit}; shorten it")


@dataclass(frozen=True, eq=False)
class Row:
    """A row of a forward pass: a question's prompt and one of its trees."""

    question: int
    prompt: tuple[int, ...]
    tree: Tree


def _parts(lm: LanguageModel, rows: Sequence[Row], max_tokens: int) -> Iterator[list[Row]]:
    """Rows of like size together, as many as fit."""
    vocabulary = lm.model.config.get_text_config().vocab_size
    part: list[Row] = []
    prompt = nodes = 0
    for row in sorted(rows, key=lambda row: (-row.tree.n_nodes, -len(row.prompt))):
        longer, wider = max(prompt, len(row.prompt)), max(nodes, row.tree.n_nodes)
        n = len(part) + 1
        if part and (n * (longer + wider) > max_tokens or n * (wider + 1) * vocabulary > MAX_LOGITS):
            yield part
            part, longer, wider = [], len(row.prompt), row.tree.n_nodes
        part.append(row)
        prompt, nodes = longer, wider
    yield part


def _forward(
    lm: LanguageModel,
    rows: Sequence[Row],
    edits: Sequence[Edit],
    slots: Sequence[np.ndarray],
    tokens: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """Log-probability of each token at its slot, row by row, fp64. Prompts are padded on the left and nodes on the
    right, so that the slots are one slice."""
    batch, inputs = tree_inputs(lm, rows)
    _require_uniform(edits, batch, int(batch.answer_starts[0]))
    return _look_up(lm, batch, inputs, take_rows(edits, [row.question for row in rows]), slots, tokens)


def tree_inputs(lm: LanguageModel, rows: Sequence[Row]) -> tuple[Batch, dict[str, Any]]:
    """The batch of these rows, and the keyword arguments of its forward pass, whose logits are slot by slot."""
    batch, positions, allowed = _lay_out(lm, rows)
    return batch, {
        "input_ids": batch.input_ids,
        "attention_mask": _masks(lm, allowed, positions),
        "position_ids": positions,
        "logits_to_keep": batch.input_ids.shape[1] - int(batch.answer_starts[0]) + 1,
    }


def _lay_out(
    lm: LanguageModel, rows: Sequence[Row]
) -> tuple[Batch, Int[Tensor, "rows pos"], Bool[Tensor, "rows pos pos"]]:
    """The batch, each token's position, and which token attends to which (a pad to itself: an empty softmax is NaN)."""
    width, nodes = max(len(row.prompt) for row in rows), max(row.tree.n_nodes for row in rows)
    shape = (len(rows), width + nodes)
    ids, mask, positions = np.full(shape, lm.pad_id), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    allowed = np.zeros((*shape, shape[1]), dtype=bool)
    allowed[:, np.arange(shape[1]), np.arange(shape[1])] = True
    causal = np.tri(width, dtype=bool)
    starts = np.array([width - len(row.prompt) for row in rows])
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        end = width + row.tree.n_nodes
        ids[i, start:width], ids[i, width:end] = row.prompt, row.tree.tokens
        mask[i, start:end] = 1
        positions[i, start:width] = np.arange(width - start)
        positions[i, width:end] = width - start - 1 + row.tree.depths
        allowed[i, start:width, start:width] = causal[start:, start:]
        allowed[i, width:end, start:width] = True
        allowed[i, width:end, width:end] = row.tree.above
    tensors = (torch.from_numpy(a).to(lm.device) for a in (ids, mask, starts, np.full(len(rows), width)))
    return Batch(*tensors), torch.from_numpy(positions).to(lm.device), torch.from_numpy(allowed).to(lm.device)


def _masks(
    lm: LanguageModel, allowed: Bool[Tensor, "rows pos pos"], positions: Int[Tensor, "rows pos"]
) -> Tensor | dict[str, Tensor]:
    """The additive mask [rows, 1, pos, pos], by kind of layer where a model has several.

    transformers hands a 4D mask to the layers as it is, so windows are ours to apply: by distance in position, not
    in place.
    """
    config = lm.model.config.get_text_config()
    if config._attn_implementation not in ("sdpa", "eager"):
        raise AnachronError(
            f"{lm.name} attends with {config._attn_implementation!r}, which takes no 4D mask; "
            "load it with attn_implementation='sdpa'"
        )
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds - {"full_attention", "sliding_attention"}:
        raise AnachronError(
            f"{lm.name} has layers of the kinds {sorted(kinds)}; scoring knows full_attention and sliding_attention"
        )

    def additive(allowed: Tensor) -> Tensor:
        lowest = torch.finfo(lm.dtype).min
        return torch.zeros(allowed.shape, dtype=lm.dtype, device=lm.device).masked_fill_(~allowed, lowest)[:, None]

    full = additive(allowed)
    window = getattr(config, "sliding_window", None)
    near = full
    if window is not None and int(positions.max()) >= window:
        near = additive(allowed & (positions[:, :, None] - positions[:, None, :] < window))
    if "sliding_attention" in kinds:
        return {"full_attention": full, "sliding_attention": near}
    return full if getattr(config, "layer_types", None) else near


def _leaf_mass(
    lm: LanguageModel, rows: Sequence[Row], questions: Sequence[Question], edits: Sequence[Edit]
) -> Float64[np.ndarray, " leaves"]:
    """Probability of every leaf of every row, in order."""
    trees = [row.tree for row in rows]
    values = _forward(
        lm,
        rows,
        edits,
        [np.concatenate([tree.edge_slots, tree.end_slots]) for tree in trees],
        [np.concatenate([tree.edge_tokens, tree.end_tokens]) for tree in trees],
    )
    masses = []
    for row, value in zip(rows, values, strict=True):
        if np.isnan(value).any():
            raise AnachronError(
                f"question {questions[row.question].id!r}: the model's logits are NaN; "
                "look for non-finite weights, or for an edit too strong"
            )
        tree = row.tree
        edge, end = np.split(value, [len(tree.edge_tokens)])
        path = np.append(edge, 0.0)[tree.leaf_edges].sum(-1)
        ended = np.bincount(tree.end_leaves, weights=np.exp(end), minlength=len(path)) + tree.leaf_open
        masses.append(np.exp(path) * ended)
    return np.concatenate(masses)


def _look_up(
    lm: LanguageModel,
    batch: Batch,
    inputs: dict[str, Any],
    edits: Sequence[Edit],
    slots: Sequence[np.ndarray],
    tokens: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """Log-probability of each token at its slot of a forward pass, row by row, fp64."""
    counts = [len(s) for s in slots]
    index = np.stack([np.repeat(np.arange(len(slots)), counts), np.concatenate(slots), np.concatenate(tokens)])
    values = run(lm, batch, inputs, partial(_picked, index=torch.from_numpy(index)), edits)
    return np.split(values.cpu().double().numpy(), np.cumsum(counts)[:-1])


def _picked(logits: Tensor, index: Tensor) -> Tensor:
    """Log-probabilities at (row, slot, token). Logit minus logsumexp: no second table is kept."""
    row, slot, token = index.to(logits.device)
    return logits[row, slot, token].float() - torch.logsumexp(logits.float(), dim=-1)[row, slot]


def _require_room(lm: LanguageModel, rows: Sequence[Row], questions: Sequence[Question]) -> None:
    for row in rows:
        length = len(row.prompt) + int(row.tree.depths.max(initial=0))
        require_context(lm, length, f"question {questions[row.question].id!r} and its answers")


def _require_uniform(edits: Sequence[Edit], batch: Batch, width: int) -> None:
    """An edit may select all of a tree or none of it: the tree's order says nothing about a text's."""
    real = batch.attention_mask[:, width:].bool()
    for edit in edits:
        selected = edit.positions.mask(batch)[:, width:] & real
        if bool((selected.any(-1) & (selected != real).any(-1)).any()):
            raise AnachronError(
                f"positions {edit.positions.name} begin or end inside the answers; "
                "an edit in scoring selects all answer tokens or none"
            )


# Models that were seen to follow the 4D mask.
_verified: WeakSet[Any] = WeakSet()


def verify(lm: LanguageModel, rows: Sequence[Row]) -> None:
    """Once a model: an answer in a tree must have the log-probabilities it has alone in an ordinary forward pass."""
    row = max(rows, key=lambda row: row.tree.n_nodes)
    tree = row.tree
    if lm.model in _verified or tree.n_nodes < 2:
        return
    edges = tree.leaf_edges[-1][tree.leaf_edges[-1] < len(tree.edge_tokens)]
    tokens = tree.edge_tokens[edges]
    found = _forward(lm, [row], (), [tree.edge_slots[edges]], [tokens])[0]
    alone = pad([Encoded((*row.prompt, *(int(t) for t in tokens)), len(row.prompt))], lm.pad_id, device=lm.device)
    slots = len(row.prompt) - 1 + np.arange(len(tokens))
    expected = _look_up(lm, alone, alone.inputs, (), [slots], [tokens])[0]
    difference = float(np.abs(found - expected).max())
    if np.isnan(difference):
        return  # says nothing about the mask; scoring itself refuses NaN and names the question
    # half-precision logits of size 20 are rounded by .1; an ignored mask is off by more
    if difference > (1e-2 if lm.dtype == torch.float32 else 1.0):
        raise AnachronError(
            f"{lm.name}: an answer's log-probability in a tree is {difference:.3g} off the one it has alone, so this "
            "model doesn't follow a 4D attention mask; load it with attn_implementation='eager', and if it still fails "
            "sample answers instead (interp.behavior.sampling)"
        )
    _verified.add(lm.model)
