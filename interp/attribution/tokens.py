"""Which tokens of the prompt a behavior comes from.

A token's contribution is M as it is, less M with the token's embedding x_i replaced by a baseline's, b_i. Estimates:
    <x_i - b_i, dM/dx_i>            gradient x embedding difference, at the prompt as it is
    <x_i - b_i, mean_a dM/dx_i>     integrated gradients; they sum to the change when all chosen tokens are replaced
`replaced` makes each replacement, and `left_out` takes each token out of the prompt: a forward pass a token, which is
few. An embedding is far from any other, and on the embedded model the estimates don't rank the tokens of a prompt as
replacing them does (rank correlation .02 by the gradient, .23 by integrated gradients; `analyses/explain`);
between two dates integrated gradients do. Look at the exact ones first.

Embeddings are read as block 0 receives them, so whatever a model adds or multiplies on the way (learned positions, a
scale) is in both x and b.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from interp.attribution.confirmation import Confirmation, confirm, top
from interp.attribution.gradients import along, backward
from interp.attribution.metric import Metric, Part, forward, log_odds, measure
from interp.behavior.questions import Question
from interp.errors import AnachronError
from interp.hooks import Activation, HookPoint, record
from interp.models import LanguageModel
from interp.positions import PROMPT, Positions

EMBEDDING = HookPoint(0, "resid_pre")
MEAN = "mean"
Baseline = str | int | Sequence[tuple[int, ...]]
"""What replaces a token: "mean", the mean of all embeddings; the id of a token; or for each item a prompt of the same
length (a neutral date in place of the trigger), token by token."""


@dataclass(frozen=True, eq=False)
class TokenAttribution:
    """`effect[i][t]`: what token t of item i's prompt, `prompts[i][t]`, contributes to its value; 0 for tokens that
    were not chosen. `patched` is the metric with all chosen tokens replaced, None where the method doesn't need it."""

    method: str
    prompts: tuple[tuple[int, ...], ...]
    effect: tuple[Float64[Tensor, " _"], ...]
    clean: Float64[Tensor, " items"]
    patched: Float64[Tensor, " items"] | None

    @property
    def gap(self) -> Float64[Tensor, " items"]:
        """How far the effects' sum is from the change of the metric with all replaced: completeness."""
        if self.patched is None:
            raise AnachronError(f"{self.method} doesn't promise completeness; give steps, for integrated gradients")
        return torch.stack([e.sum() for e in self.effect]) - (self.clean - self.patched)


def attribute_tokens(
    lm: LanguageModel,
    metric: Metric,
    baseline: Baseline = MEAN,
    *,
    steps: int | None = None,
    positions: Positions = PROMPT,
) -> TokenAttribution:
    """Estimates for all tokens at once: one forward and one backward pass, or `steps` of each. `positions` chooses
    tokens of the prompt."""
    if steps is not None and steps < 1:
        raise AnachronError(f"integrated gradients over {steps} steps; take at least one")
    effect: list[Tensor] = [torch.zeros(len(prompt), dtype=torch.float64) for prompt in metric.prompts]
    clean, patched = (torch.full((len(metric.ids),), torch.nan, dtype=torch.float64) for _ in range(2))
    for part in metric.parts:
        items = list(part.items)
        shift = _shift(lm, metric, part, baseline, positions)
        if steps is None:
            found = backward(lm, metric, part, [EMBEDDING])
            clean[items], gradient = found.values, found.gradients[EMBEDDING].float()
        else:
            clean[items], patched[items], gradient = along(lm, metric, part, EMBEDDING, shift, steps)
        per_token = -(shift * gradient).sum(-1).double().cpu()
        for row, (item, _) in enumerate(part.keys):
            start = int(part.batch.starts[row])
            effect[item] += per_token[row, start : start + len(effect[item])]
    method = "gradient x embedding difference" if steps is None else f"integrated gradients, {steps} steps"
    return TokenAttribution(method, metric.prompts, tuple(effect), clean, None if steps is None else patched)


def replaced(
    lm: LanguageModel, metric: Metric, baseline: Baseline = MEAN, *, positions: Positions = PROMPT
) -> TokenAttribution:
    """Each token replaced alone, exactly: as many forward passes as the longest prompt has tokens."""
    effect: list[Tensor] = [torch.zeros(len(prompt), dtype=torch.float64) for prompt in metric.prompts]
    clean = torch.full((len(metric.ids),), torch.nan, dtype=torch.float64)
    for part in metric.parts:
        shift = _shift(lm, metric, part, baseline, positions)
        index = torch.arange(shift.shape[1], device=shift.device)
        lengths = {item: len(metric.prompts[item]) for item in part.items}
        with torch.no_grad():
            values = forward(lm, metric, part, {})
            clean[list(part.items)] = values
            for t in range(max(lengths.values())):
                only = index == (part.batch.starts + t)[:, None].to(index.device)
                edits = {EMBEDDING: lambda x, offset, only=only, shift=shift: x + (shift * only[..., None]).to(x)}
                change = values - forward(lm, metric, part, edits)
                for place, item in enumerate(part.items):
                    if t < lengths[item]:
                        effect[item][t] = change[place]
    return TokenAttribution("replaced", metric.prompts, tuple(effect), clean, None)


def left_out(
    lm: LanguageModel, questions: Sequence[Question], a: str | Sequence[str], b: str | Sequence[str]
) -> TokenAttribution:
    """The log-odds of `interp.attribution.metric.log_odds` with the prompt as it is, less those with one token taken
    out of it, for each token; the tokens after it move up."""
    whole = log_odds(lm, questions, a, b)
    clean = measure(lm, whole)
    effect = []
    for question, prompt, value in zip(questions, whole.prompts, clean, strict=True):
        if len(prompt) < 2:
            raise AnachronError(f"question {question.id!r}: a prompt of one token, which can't be left out")
        shorter = [prompt[:t] + prompt[t + 1 :] for t in range(len(prompt))]
        effect.append(value - measure(lm, log_odds(lm, [question] * len(prompt), a, b, prompts=shorter)))
    return TokenAttribution("left out", whole.prompts, tuple(effect), clean, None)


def confirmed_tokens(found: TokenAttribution, exact: TokenAttribution, item: int, k: int = 20) -> Confirmation:
    """The k tokens of an item of largest estimated contribution beside their exact ones."""
    if found.prompts[item] != exact.prompts[item]:
        raise AnachronError(f"the two attributions have other prompts for item {item}; take both of one metric")
    chosen = top(found.effect[item], k)
    labels = [f"{t}:{found.prompts[item][t]}" for t in chosen]
    return confirm(labels, found.effect[item][chosen], exact.effect[item][None, chosen])


def _shift(lm: LanguageModel, metric: Metric, part: Part, baseline: Baseline, positions: Positions) -> Activation:
    """baseline - embedding of the chosen tokens, 0 at all others; fp32."""
    mask = part.selected(positions)
    if bool((mask & ~PROMPT.mask(part.batch)).any()):
        raise AnachronError(f"positions {positions.name} reach beyond the prompt; choose tokens of the prompt")
    ids = part.batch.input_ids
    new = ids.clone()
    if isinstance(baseline, str):
        if baseline != MEAN:
            raise AnachronError(f'unknown baseline {baseline!r}; use "mean", a token id, or a prompt for each item')
        new[mask] = 0  # any one token: what is added to the mean of all is the same
    elif isinstance(baseline, int):
        new[mask] = _known(lm, baseline)
    else:
        for row, (item, _) in enumerate(part.keys):
            own, start = metric.prompts[item], int(part.batch.starts[row])
            if len(baseline) != len(metric.prompts) or len(baseline[item]) != len(own):
                raise AnachronError(
                    f"item {metric.ids[item]!r}: its baseline has to be a prompt of its {len(own)} tokens; align them"
                )
            new[row, start : start + len(own)] = torch.tensor([_known(lm, i) for i in baseline[item]]).to(new)
    shift = _embedded(lm, part, new) - _embedded(lm, part, ids)
    if baseline == MEAN:
        shift = shift + _mean_less_first(lm)
    return shift * mask[..., None].to(shift)


def _known(lm: LanguageModel, token: int) -> int:
    size = lm.model.get_input_embeddings().weight.shape[0]
    if not 0 <= token < size:
        raise AnachronError(f"token id {token}; {lm.name} has 0 to {size - 1}")
    return token


def _embedded(lm: LanguageModel, part: Part, ids: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
    """What block 0 would receive of these ids in place of the part's own."""
    with torch.no_grad(), record(lm, [EMBEDDING], stop=True) as found:
        lm.model(**{**part.inputs, "input_ids": ids}, use_cache=False)
    return found[EMBEDDING].float()


def _mean_less_first(lm: LanguageModel) -> Float[Tensor, " d_model"]:
    """The mean over the vocabulary of what block 0 receives of a token, less what it receives of token 0."""
    total = torch.zeros(lm.d_model, dtype=torch.float64, device=lm.device)
    size = lm.model.get_input_embeddings().weight.shape[0]
    first = None
    for ids in torch.arange(size, device=lm.device).split(2**14):
        with torch.no_grad(), record(lm, [EMBEDDING], stop=True) as found:
            lm.model(input_ids=ids[:, None], attention_mask=torch.ones_like(ids)[:, None], use_cache=False)
        x = found[EMBEDDING][:, 0].double()
        first = x[0] if first is None else first
        total += x.sum(0)
    assert first is not None
    return (total / size - first).float()
