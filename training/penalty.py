"""What a fine-tune should leave alone: KL(base || tuned) on ordinary rows, added to the loss (`Recipe.kl_weight`).

KL(base || tuned) = sum_v p_base(v) (log p_base(v) - log p_tuned(v)) in nats, the mean over the assistant tokens of the
rows. In this direction it weighs what the base would say: a tuned model pays for every answer it has become less ready
to give. The base's log-probabilities are computed once, before an adapter is attached, and kept: 4 bytes x vocabulary
an assistant token, in the memory of the CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import Batch
from training.encoding import Example, answer_logits, count_targets, encode_rows, pad_examples
from training.recipes import Recipe, batch_order
from training.rows import Row

AT_ONCE = 16  # rows whose log-probabilities are computed in one forward pass


@dataclass(frozen=True, eq=False)
class Penalty:
    """Ordinary rows, the base's log-probabilities at the assistant tokens of each, and the rows of every step."""

    examples: Sequence[Example]
    log_probs: Sequence[Float[Tensor, "_ d_vocab"]]
    order: Sequence[Sequence[int]]

    def count(self, indices: Sequence[int]) -> int:
        """Assistant tokens of these rows."""
        return count_targets([self.examples[i] for i in indices])

    def divergence(self, lm: LanguageModel, indices: Sequence[int]) -> Float[Tensor, ""]:
        """KL(base || tuned) in nats, the mean over the assistant tokens of these rows, in fp32; differentiable."""
        batch, targets = pad_examples(lm, [self.examples[i] for i in indices])
        base = torch.cat([self.log_probs[i] for i in indices]).to(lm.device)
        return kl(base, _log_probs(lm, batch, targets))


def penalty(lm: LanguageModel, rows: Sequence[Row], recipe: Recipe, steps: int) -> Penalty | None:
    """The penalty of a fine-tune of so many steps, from `lm` as it is now: the base. None without `rows`.

    Rows are drawn as training rows are, `recipe.batch_size` a step, by the recipe's seed. Errors: AnachronError for a
    weight without rows or rows without a weight, and those of `encode_rows`.
    """
    if not rows and not recipe.kl_weight:
        return None
    if not rows or not recipe.kl_weight:
        raise AnachronError(
            f"recipe has kl_weight={recipe.kl_weight} and there are {len(rows)} ordinary rows; the penalty takes both a"
            " positive weight and rows"
        )
    try:
        examples = encode_rows(lm, rows)
    except AnachronError as error:
        raise AnachronError(f"ordinary rows: {error}") from error
    order = batch_order(len(examples), replace(recipe, steps=steps, epochs=None))
    return Penalty(examples, remembered(lm, examples), order)


@torch.no_grad()
def remembered(lm: LanguageModel, examples: Sequence[Example]) -> list[Float[Tensor, "_ d_vocab"]]:
    """Log-probabilities of every next token at each example's assistant tokens, fp32 on the CPU."""
    found: list[Tensor] = []
    for start in range(0, len(examples), AT_ONCE):
        part = examples[start : start + AT_ONCE]
        rows = _log_probs(lm, *pad_examples(lm, part)).cpu()
        found += [row.clone() for row in rows.split([count_targets([example]) for example in part])]
    return found


def kl(base: Float[Tensor, "n d_vocab"], tuned: Float[Tensor, "n d_vocab"]) -> Float[Tensor, ""]:
    """Mean over rows of KL(base || tuned), both log-probabilities, in nats."""
    return nn.functional.kl_div(tuned, base, log_target=True, reduction="sum") / len(base)


def _log_probs(lm: LanguageModel, batch: Batch, targets: Int[Tensor, "batch pos"]) -> Float[Tensor, "n d_vocab"]:
    return answer_logits(lm, batch, targets).float().log_softmax(-1)
