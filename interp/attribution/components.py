"""Heads and MLPs by transformer-lens's bridge: what each writes towards an answer, and what patching it would do.

A component is the embedding, one head of one layer, a layer's attention bias, or a layer's MLP; together they are the
residual stream before the final norm. Two attributions of a metric of the last token's logits:
    direct    the part of the metric that a component writes itself (direct logit attribution);
    screen    what putting other activations in its place would do, to first order (attribution patching,
              Nanda 2023, https://www.neelnanda.io/mechanistic-interpretability/attribution-patching);
and `patch`, which does it, so that `compare` can say how far a ranking is to be trusted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.attribution.bridge import ATTENTION, HEADS, MLP, Bridge
from interp.attribution.confirmation import Confirmation, confirm, top
from interp.attribution.contrast import NextToken
from interp.dictionaries.readout import norm_gain
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.positions import ALL, Positions
from interp.prompts import Batch, Encoded, pad

Activations = Mapping[str, Float[Tensor, "prompts pos ..."]]
"""By hook name of the bridge: what every head writes [prompts pos n_heads d_model], and every MLP [prompts pos d_model]
(heads before the norm that Gemma puts after attention)."""

EMBED = "embed"


@dataclass(frozen=True, eq=False)
class Attribution:
    """`values[i, j]`: what component `names[j]` does to the metric of prompt i; `metric[i]` is the metric itself."""

    names: tuple[str, ...]
    values: Float[Tensor, "prompts components"]
    metric: Float[Tensor, " prompts"]

    def top(self, k: int) -> tuple[str, ...]:
        """The k components of largest absolute mean over prompts, the largest first."""
        return tuple(self.names[j] for j in top(self.values.double().mean(0), k))


def direct(bridged: Bridge, encoded: Sequence[Encoded], metric: NextToken) -> Attribution:
    """What every component writes towards the metric: (dM / dN(h)) . N(component), N the final norm with its scale
    frozen at what the whole stream h gives it.

    Components: "embed" (position embeddings included), "2.head.3", "2.attn_bias" where attention has one, "2.mlp". They
    sum to (dM / dN(h)) . (N(h) - the norm's own bias): the whole metric if it is a difference of logits (less biases).
    For `next_token_log_odds` it is the mean logit of each set's tokens, weighted by their probabilities within the
    set, which leaves out how evenly a set spreads. All prompts go in one pass, as a metric needs them.

    Errors: AnachronError if the components don't sum to the stream.
    """
    lm, batch = bridged.lm, _batch(bridged.lm, encoded)
    last: dict[str, Tensor] = {}
    attention = [f"blocks.{layer}.{part}" for layer in range(lm.n_layers) for part in ATTENTION]
    names = [*bridged.hooks, *attention, "blocks.0.hook_in", "ln_final.hook_in", "unembed.hook_in"]
    values, gradients = bridged.gradients(
        batch, ["unembed.hook_in"], metric, [(name, _keep(last, name, -1)) for name in names]
    )
    parts = _parts(bridged, last)
    stream, normed = last["ln_final.hook_in"], last["unembed.hook_in"]
    off = float((torch.stack(list(parts.values())).sum(0) - stream).abs().max() / stream.abs().max())
    if not off < (1e-4 if lm.dtype == torch.float32 else 5e-2):
        raise AnachronError(
            f"{lm.name}: heads, MLPs and embedding don't sum to the residual stream ({off:.2g} of its largest entry is "
            "left over); its blocks add something else, so what each writes can't be told: use interp.hooks"
        )
    towards = _frozen(lm, lm.anatomy.final_norm, stream, normed) * gradients["unembed.hook_in"][:, -1]
    centred = norm_gain(lm)[1]
    found = [((p - p.mean(-1, keepdim=True) if centred else p) * towards).sum(-1) for p in parts.values()]
    return Attribution(tuple(parts), torch.stack(found, dim=1).float().cpu(), values.float().cpu())


def activations(bridged: Bridge, encoded: Sequence[Encoded]) -> dict[str, Float[Tensor, "prompts pos ..."]]:
    """What every head and MLP writes at every position, padded on the left, by hook name; for `screen` and `patch`.

    Their zeros or means are sources as well. Size: layers x prompts x positions x (n_heads + 1) x d_model numbers.
    """
    inputs = bridged.inputs(_batch(bridged.lm, encoded))
    with torch.no_grad():
        _, cache = bridged.model.run_with_cache(**inputs, names_filter=list(bridged.hooks))
    return {name: cache[name] for name in bridged.hooks}


def screen(
    bridged: Bridge, encoded: Sequence[Encoded], source: Activations, metric: NextToken, positions: Positions = ALL
) -> Attribution:
    """First-order effect of replacing each component's activations at `positions` by those of `source`:
    sum (source - own) . dM / d own, for all components in one forward and one backward pass.

    `source`: `activations` of another model on the same prompts, of other prompts of the same lengths, or made up.
    """
    batch = _batch(bridged.lm, encoded)
    selected = positions.mask(batch).to(bridged.lm.device)
    own: dict[str, Tensor] = {}
    hooks = bridged.hooks
    values, gradients = bridged.gradients(batch, hooks, metric, [(name, _keep(own, name)) for name in hooks])
    effects = []
    for name in hooks:
        by_position = ((_of(source, name, own[name]) - own[name]) * gradients[name]).sum(-1)
        mask = selected if by_position.dim() == 2 else selected[..., None]
        effect = (by_position * mask).sum(1)
        effects.append(effect if effect.dim() == 2 else effect[:, None])
    return Attribution(bridged.names, torch.cat(effects, dim=1).float().cpu(), values.float().cpu())


def patch(
    bridged: Bridge,
    encoded: Sequence[Encoded],
    source: Activations,
    metric: NextToken,
    names: Sequence[str],
    positions: Positions = ALL,
) -> Attribution:
    """The same effects exactly, for some components: one forward pass each, with only that component replaced."""
    batch = _batch(bridged.lm, encoded)
    selected = positions.mask(batch).to(bridged.lm.device)
    unknown = [name for name in names if name not in bridged.names]
    if unknown or not names:
        raise AnachronError(f"no components {unknown}; there are {', '.join(bridged.names[:3])}, ...: choose some")
    effects = []
    with torch.no_grad():
        before = metric(bridged.last_logits(batch))
        for name in names:
            layer, _, head = name.partition(".head.")
            place = f"blocks.{layer}.{HEADS}" if head else f"blocks.{name.partition('.')[0]}.{MLP}"
            change = partial(_replaced, name=place, source=source, selected=selected, head=int(head) if head else None)
            effects.append(metric(bridged.last_logits(batch, [(place, change)])) - before)
    return Attribution(tuple(names), torch.stack(effects, dim=1).float().cpu(), before.float().cpu())


def compare(screened: Attribution, exact: Attribution) -> Confirmation:
    """A screen (or direct attributions) of the components in `exact` beside their exact effects, means over prompts."""
    unknown = [name for name in exact.names if name not in screened.names]
    if unknown or len(exact.names) < 3:
        raise AnachronError(
            f"a comparison of {list(exact.names)}, {unknown} not screened; patch three or more that were"
        )
    chosen = [screened.names.index(name) for name in exact.names]
    return confirm(exact.names, screened.values.double().mean(0)[chosen], exact.values.double())


def _batch(lm: LanguageModel, encoded: Sequence[Encoded]) -> Batch:
    return pad(encoded, lm.pad_id, device=lm.device)


def _keep(found: dict[str, Tensor], name: str, at: int | slice = slice(None)) -> Callable:
    """A hook that notes an activation under the name asked for; the bridge's own name for it may be another."""

    def keep(x: Tensor, hook: Any) -> None:
        found[name] = x[:, at].detach()

    return keep


def _parts(bridged: Bridge, last: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "prompts d_model"]]:
    """What each component adds to the stream at the last token."""
    lm = bridged.lm
    parts = {EMBED: last["blocks.0.hook_in"]}
    for layer in range(lm.n_layers):
        heads, out, added = (last[f"blocks.{layer}.{part}"] for part in (HEADS, *ATTENTION))
        norm = lm.anatomy.attention_outs[layer]
        # a norm after attention (Gemma) is applied to each head with the scale that all of them give it
        factor = _frozen(lm, norm, out, added) if norm is not lm.anatomy.attentions[layer] else torch.ones_like(out)
        parts |= {f"{layer}.head.{h}": heads[:, h] * factor for h in range(bridged.n_heads)}
        if getattr(bridged.model.blocks[layer].attn.o.original_component, "bias", None) is not None:
            parts[f"{layer}.attn_bias"] = (out - heads.sum(1)) * factor
        parts[f"{layer}.mlp"] = last[f"blocks.{layer}.{MLP}"]
    return parts


def _frozen(
    lm: LanguageModel, norm: nn.Module, x: Float[Tensor, "prompts d_model"], normed: Float[Tensor, "prompts d_model"]
) -> Float[Tensor, "prompts d_model"]:
    """The factors by which the norm multiplies each dimension of these rows (after centring), its bias left out."""
    gain, centred = norm_gain(replace(lm, anatomy=replace(lm.anatomy, final_norm=norm)))
    ahead = (x - x.mean(-1, keepdim=True) if centred else x).float() * gain
    bias = getattr(norm, "bias", None)
    after = normed.float() - (0.0 if bias is None else bias.float())
    return gain * ((ahead * after).sum(-1) / ahead.square().sum(-1))[:, None]


def _of(source: Activations, name: str, own: Tensor) -> Tensor:
    if name not in source or source[name].shape != own.shape:
        found = list(source[name].shape) if name in source else "nothing"
        raise AnachronError(
            f"the source has {found} at {name} for {list(own.shape)}; take `activations` of prompts of the same lengths"
        )
    return source[name].to(own)


def _replaced(x: Tensor, hook: Any, name: str, source: Activations, selected: Tensor, head: int | None) -> Tensor:
    new = _of(source, name, x)
    mask = selected[..., None]
    if head is None:
        return torch.where(mask, new, x)
    patched = x.clone()
    patched[:, :, head] = torch.where(mask, new[:, :, head], x[:, :, head])
    return patched
