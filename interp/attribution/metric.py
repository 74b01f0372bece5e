"""What is attributed: one number an item, a differentiable function of the logits of forward passes laid out before.

`log_odds` is the behavior itself, log P(group a) - log P(group b) of a question's listed answers, with the
probabilities that `interp.behavior.scoring` computes; `from_logits` takes any other function of logits. It is laid
out once for a tokenizer and measured on every model over it, base or tuned, whole or edited.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from interp.attribution.leaves import gather, side_log_odds
from interp.behavior.plans import plan
from interp.behavior.questions import Question, require_answers
from interp.behavior.scoring import MAX_LOGITS, Row, require_context, tree_inputs, verify
from interp.errors import AnachronError
from interp.hooks import EditFunction, HookPoint, edit
from interp.models import LanguageModel
from interp.pair import BASE, ModelPair
from interp.positions import Positions
from interp.prompts import Batch, Encoded, batches

Edits = Mapping[HookPoint, EditFunction | Sequence[EditFunction]]


@dataclass(frozen=True, eq=False)
class Part:
    """One forward pass of a metric: `value` takes its logits to the values of `items`, which have no row elsewhere.

    `keys[i]` is (item, its how manieth row) of row i; `tree` says whether the answers are laid out as a tree, whose
    tokens stand in no order of a text.
    """

    batch: Batch
    inputs: Mapping[str, Any]
    items: tuple[int, ...]
    keys: tuple[tuple[int, int], ...]
    value: Callable[[Tensor], Float64[Tensor, " items"]]
    tree: bool

    @cached_property
    def row_items(self) -> Int[Tensor, " batch"]:
        """Each row's place in `items`."""
        places = {item: place for place, item in enumerate(self.items)}
        return torch.tensor([places[item] for item, _ in self.keys])

    def selected(self, positions: Positions) -> Bool[Tensor, "batch pos"]:
        """The tokens that `positions` selects. AnachronError if it selects a part of a tree."""
        mask = positions.mask(self.batch)
        if self.tree:
            width = int(self.batch.answer_starts[0])
            answers, real = mask[:, width:], self.batch.attention_mask[:, width:].bool()
            if bool((answers.any(-1) & (answers != real).any(-1)).any()):
                raise AnachronError(
                    f"positions {positions.name} begin or end inside the answers; select all answer tokens or none"
                )
        return mask

    def by_item(self, per_row: Float[Tensor, "batch *axes"]) -> Float64[Tensor, "items *axes"]:
        """Sums over each item's rows, fp64 on the CPU."""
        found = torch.zeros((len(self.items), *per_row.shape[1:]), dtype=torch.float64)
        return found.index_add_(0, self.row_items, per_row.double().cpu())


@dataclass(frozen=True, eq=False)
class Metric:
    """A number for each of `ids`, its prompts as token ids, and the forward passes it takes."""

    name: str
    ids: tuple[str, ...]
    prompts: tuple[tuple[int, ...], ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class Measured:
    """A metric on two members of a pair, item by item."""

    ids: tuple[str, ...]
    base: Float64[Tensor, " items"]
    tuned: Float64[Tensor, " items"]

    @property
    def difference(self) -> Float64[Tensor, " items"]:
        """tuned - base."""
        return self.tuned - self.base


def log_odds(
    lm: LanguageModel,
    questions: Sequence[Question],
    a: str | Sequence[str],
    b: str | Sequence[str],
    *,
    prompts: Sequence[tuple[int, ...]] | None = None,
    max_tokens: int = 2048,
) -> Metric:
    """log P(an answer of group a) - log P(an answer of group b), in nats, one item a question; a and b name a group or
    several.

    `prompts`: token ids to put in place of the questions' own. `max_tokens` bounds a forward pass, padding counted, but
    for a question that takes more alone.

    Errors: AnachronError for no questions, a question without such groups or with an empty side, a prompt too long, a
    model that doesn't follow a 4D attention mask.
    """
    sides = [(a,) if isinstance(a, str) else tuple(a), (b,) if isinstance(b, str) else tuple(b)]
    if not questions:
        raise AnachronError("no questions to attribute; give at least one")
    if prompts is not None and len(prompts) != len(questions):
        raise AnachronError(f"{len(prompts)} prompts for {len(questions)} questions; give one each")
    rows: list[list[Row]] = []
    for item, question in enumerate(questions):
        _require_sides(question, sides)
        planned = plan(lm, question)
        prompt = planned.prompt if prompts is None else tuple(prompts[item])
        if not prompt:
            raise AnachronError(f"question {question.id!r}: its prompt is to be no tokens at all; give at least one")
        rows.append([Row(item, prompt, tree) for tree in planned.trees])
        for row in rows[-1]:
            length = len(prompt) + int(row.tree.depths.max(initial=0))
            require_context(lm, length, f"question {question.id!r} and its answers")
    with torch.no_grad():
        verify(lm, [row for own in rows for row in own])
    parts = tuple(_tree_part(lm, group, questions, sides) for group in _grouped(lm, rows, max_tokens))
    name = f"log-odds {'+'.join(sides[0])} : {'+'.join(sides[1])}"
    return Metric(name, tuple(q.id for q in questions), tuple(own[0].prompt for own in rows), parts)


def from_logits(
    lm: LanguageModel,
    encoded: Sequence[Encoded],
    function: Callable[[Float[Tensor, "batch pos d_vocab"], Batch], Float[Tensor, " batch"]],
    name: str,
    *,
    ids: Sequence[str] | None = None,
    max_tokens: int = 4096,
) -> Metric:
    """function(logits, batch) of rows padded on the left, one item a row. It has to be differentiable, and a row's
    value must depend on that row alone."""
    for item, row in enumerate(encoded):
        require_context(lm, len(row.ids), f"row {item}")
    parts = []
    for items, batch in batches(encoded, lm.pad_id, max_tokens, device=lm.device):
        value = partial(_applied, function=function, batch=batch, name=name)
        parts.append(Part(batch, batch.inputs, tuple(items), tuple((i, 0) for i in items), value, tree=False))
    if not parts:
        raise AnachronError(f"no rows to measure {name} on; give at least one")
    names = tuple(ids) if ids is not None else tuple(str(i) for i in range(len(encoded)))
    if len(names) != len(encoded):
        raise AnachronError(f"{len(names)} ids for {len(encoded)} rows; give one each")
    return Metric(name, names, tuple(row.ids[: row.prompt_len] for row in encoded), tuple(parts))


def measure(
    lm: LanguageModel, metric: Metric, edits: Callable[[Part], Edits] | None = None
) -> Float64[Tensor, " items"]:
    """The metric's values. `edits` gives the functions that `interp.hooks.edit` applies in a part's forward pass, as
    `interp.steering.changes(lm, edits, part.batch)` does of steering edits."""
    found = torch.full((len(metric.ids),), torch.nan, dtype=torch.float64)
    with torch.no_grad():
        for part in metric.parts:
            found[list(part.items)] = forward(lm, metric, part, edits(part) if edits else {}).cpu()
    return found


def measure_pair(pair: ModelPair, metric: Metric, tuned: str, base: str = BASE) -> Measured:
    """The metric on two members of a pair."""
    values = []
    for name in (base, tuned):
        with pair.using(name) as lm:
            values.append(measure(lm, metric))
    return Measured(metric.ids, *values)


def forward(lm: LanguageModel, metric: Metric, part: Part, edits: Edits) -> Float64[Tensor, " items"]:
    """The values of one part under edits, with gradients where they are enabled. AnachronError for NaN or infinity."""
    with edit(lm, edits):
        values = part.value(lm.model(**part.inputs, use_cache=False).logits)
    if not bool(torch.isfinite(values).all()):
        item = part.items[int((~torch.isfinite(values)).nonzero()[0, 0])]
        raise AnachronError(
            f"{metric.name} of item {metric.ids[item]!r} is NaN or infinite; look for non-finite weights, an edit too "
            "strong, or answers of probability 0"
        )
    return values


def _require_sides(question: Question, sides: Sequence[tuple[str, ...]]) -> None:
    require_answers(question)
    if overlap := set(sides[0]) & set(sides[1]):
        raise AnachronError(f"groups {sorted(overlap)} are on both sides of the log-odds; name each group once")
    for side in sides:
        if unknown := [group for group in side if group not in question.answers]:
            raise AnachronError(f"question {question.id!r} has no groups {unknown}; it has {list(question.answers)}")
        if not any(question.answers[group] for group in side):
            raise AnachronError(
                f"question {question.id!r} has no answers in {list(side)}, so their log-probability is -infinity; "
                "leave the question out"
            )


def _grouped(lm: LanguageModel, rows: Sequence[list[Row]], max_tokens: int) -> Iterator[list[Row]]:
    """Questions of like size together, all rows of one in the same part: the logarithm of a sum has to see them all."""
    vocabulary = lm.model.config.get_text_config().vocab_size
    group: list[Row] = []
    for own in sorted(rows, key=lambda own: (-max(row.tree.n_nodes for row in own), -len(own[0].prompt))):
        wider = [*group, *own]
        nodes = max(row.tree.n_nodes for row in wider)
        width = max(len(row.prompt) for row in wider) + nodes
        if group and (len(wider) * width > max_tokens or len(wider) * (nodes + 1) * vocabulary > MAX_LOGITS):
            yield group
            wider = own
        group = wider
    yield group


def _tree_part(
    lm: LanguageModel, rows: Sequence[Row], questions: Sequence[Question], sides: Sequence[tuple[str, ...]]
) -> Part:
    batch, inputs = tree_inputs(lm, rows)
    items = tuple(dict.fromkeys(row.question for row in rows))
    seen: dict[int, int] = {}
    keys = []
    for row in rows:
        keys.append((row.question, seen.setdefault(row.question, 0)))
        seen[row.question] += 1
    value = partial(side_log_odds, leaves=gather(rows, items, questions, sides), n_items=len(items))
    return Part(batch, inputs, items, tuple(keys), value, tree=True)


def _applied(
    logits: Tensor, function: Callable[[Tensor, Batch], Tensor], batch: Batch, name: str
) -> Float64[Tensor, " items"]:
    values = function(logits, batch)
    if tuple(values.shape) != (logits.shape[0],):
        raise AnachronError(
            f"{name} gave shape {tuple(values.shape)} for {logits.shape[0]} rows; give one number a row"
        )
    return values.double().cpu()
