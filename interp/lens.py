"""Reading a direction: the words that it promotes, directly or through the layers that follow.

logit_lens             the tokens whose logits +v raises and lowers, by the final norm's gain and the unembedding
                       (nostalgebraist 2020, https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru)
patchscope             the next token when v stands in place of a placeholder's residual stream
                       (Ghandeharioun et al. 2024, https://arxiv.org/abs/2401.06102)
activation_difference  what to read: tuned minus base at the first positions of unrelated text
                       (Minder et al. 2025, https://arxiv.org/abs/2510.13900)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from interp.capture import capture_pair
from interp.dictionaries.readout import Token, named_tokens, token_logits
from interp.errors import AnachronError
from interp.hooks import HookPoint, edit
from interp.models import LanguageModel
from interp.pair import BASE, ModelPair
from interp.positions import span
from interp.prompts import Encoded, encode_text, pad

IDENTITY = "cat -> cat\n1135 -> 1135\nhello -> hello\n?"
"""The prompt of the token-identity patchscope; its last token is the placeholder."""


@dataclass(frozen=True)
class Reading:
    """The tokens whose logits a vector raises most, and those that it lowers most (what its negative promotes)."""

    promoted: tuple[Token, ...]
    suppressed: tuple[Token, ...]


@dataclass(frozen=True, eq=False)
class ActivationDifference:
    """`values[p, j]`: mean over n texts of tuned - base at `points[p]` and token j (fp64); `norms[p, j]`: mean norm of
    the base's activations there, in residual-stream units."""

    points: tuple[HookPoint, ...]
    values: Float64[Tensor, "points first d_model"]
    norms: Float64[Tensor, "points first"]
    n: int


def logit_lens(lm: LanguageModel, vectors: Float[Tensor, "n d_model"], n: int = 10) -> list[Reading]:
    """The n tokens that each vector promotes and suppresses, with `interp.dictionaries.readout.token_logits`.

    Errors: AnachronError for vectors of another width, or more tokens than the vocabulary has.
    """
    _require_vectors(lm, vectors)
    logits = token_logits(lm, vectors)
    if not 0 < n <= logits.shape[1]:
        raise AnachronError(f"{n} tokens asked for; {lm.name} has {logits.shape[1]}")
    readings = []
    for row in logits:
        high, low = row.topk(n), (-row).topk(n)
        promoted, suppressed = named_tokens(lm, high.indices, high.values), named_tokens(lm, low.indices, -low.values)
        readings.append(Reading(promoted, suppressed))
    return readings


def patchscope(
    lm: LanguageModel,
    vectors: Float[Tensor, "n d_model"],
    point: HookPoint,
    scales: Sequence[float],
    *,
    prompt: Encoded | None = None,
    placeholder: int = -1,
    max_tokens: int = 4096,
) -> Float[Tensor, "n scales d_vocab"]:
    """P(next token | prompt) with the activation of its token `placeholder` at `point` replaced by scale * v / |v|.

    `scales` are in residual-stream units: multiples of the typical norm there. `prompt`: IDENTITY unless given; a model
    that knows conversations only is better asked one. fp32, CPU.

    Errors: AnachronError for vectors of another width or of length 0, no scales, or a placeholder outside the prompt.
    """
    _require_vectors(lm, vectors)
    prompt = encode_text(lm, IDENTITY) if prompt is None else prompt
    width = len(prompt.ids)
    if not -width <= placeholder < width:
        raise AnachronError(f"placeholder {placeholder} in a prompt of {width} tokens; name one of them")
    lengths = vectors.float().norm(dim=1)
    if not scales or not bool((lengths > 0).all()):
        raise AnachronError("a patchscope needs at least one scale and vectors that aren't 0; leave such vectors out")
    units = vectors.float() / lengths[:, None]
    rows = (torch.tensor(list(scales), dtype=torch.float32)[None, :, None] * units.cpu()[:, None]).flatten(0, 1)
    found = []
    for part in rows.split(max(1, max_tokens // width)):
        batch = pad([prompt] * len(part), lm.pad_id, device=lm.device)

        def put(x: Tensor, offset: int, part: Tensor = part) -> Tensor:
            patched = x.clone()
            patched[:, placeholder] = part.to(x)
            return patched

        with torch.no_grad(), edit(lm, {point: put}):
            logits = lm.model(**batch.inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
        found.append(logits.float().softmax(-1).cpu())
    return torch.cat(found).unflatten(0, (len(vectors), len(scales)))


def activation_difference(
    pair: ModelPair,
    texts: Sequence[Encoded],
    points: Sequence[HookPoint],
    first: int,
    tuned: str,
    *,
    base: str = BASE,
    max_tokens: int = 4096,
) -> ActivationDifference:
    """Mean over texts of the tuned model's activations minus the base's at the tokens 0 to first - 1, by point.

    The texts should have nothing to do with what was tuned on; each needs `first` tokens (AnachronError).
    """
    short = next((i for i, text in enumerate(texts) if len(text.ids) < first), None)
    if first < 1 or not texts or short is not None:
        where = "there are none" if not texts else f"text {short} has fewer"
        raise AnachronError(f"differences at the first {first} tokens of texts, but {where}; give longer texts")
    points = tuple(dict.fromkeys(points))
    # what follows changes nothing in a causal model
    texts = [Encoded(text.ids[:first], min(text.prompt_len, first)) for text in texts]
    total = torch.zeros(len(points), first, pair.base.d_model, dtype=torch.float64)
    norms = torch.zeros(len(points), first, dtype=torch.float64)
    step = 256  # texts whose activations are held at once
    for begin in range(0, len(texts), step):
        part = texts[begin : begin + step]
        rows = capture_pair(pair, [base, tuned], part, points, span(0, first), max_tokens)
        for p, point in enumerate(points):
            before, after = (rows[name][point].double().unflatten(0, (len(part), first)) for name in (base, tuned))
            total[p] += (after - before).sum(0)
            norms[p] += before.norm(dim=-1).sum(0)
    return ActivationDifference(points, total / len(texts), norms / len(texts), len(texts))


def _require_vectors(lm: LanguageModel, vectors: Tensor) -> None:
    if vectors.shape[1] != lm.d_model or not len(vectors) or not bool(torch.isfinite(vectors).all()):
        raise AnachronError(
            f"{len(vectors)} vectors of {vectors.shape[1]} entries for {lm.name} (d_model {lm.d_model}); give at least "
            "one finite vector of its residual stream"
        )
