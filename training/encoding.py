"""Chat rows as tokens with targets at the assistant's turns, and the loss on those."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import Batch, Encoded, encode_chat, pad
from training.rows import Row

NO_TARGET = -100  # what torch's cross entropy leaves out


@dataclass(frozen=True)
class Example:
    """A tokenised row. `targets[i]` is the token that position i is to predict, `NO_TARGET` where there is none."""

    encoded: Encoded
    targets: tuple[int, ...]


def encode_rows(lm: LanguageModel, rows: Sequence[Row]) -> list[Example]:
    """Tokenise rows; the targets are the tokens of every assistant turn, its end token among them.

    Where a turn begins and ends comes from rendering the conversation up to it, and each such part must be a prefix of
    the whole, token by token. A template that rewrites earlier turns raises `AnachronError` with the row's number, as
    do rows that are too long for the model, and no rows at all.
    """
    if not rows:
        raise AnachronError("there are no rows to train on; give at least one")
    longest = getattr(lm.model.config, "max_position_embeddings", None)
    examples = []
    for number, row in enumerate(rows, start=1):
        try:
            example = _encode_row(lm, row)
        except AnachronError as error:
            raise AnachronError(f"row {number}: {error}") from error
        if longest is not None and len(example.targets) > longest:
            raise AnachronError(
                f"row {number} has {len(example.targets)} tokens and {lm.name} takes {longest}; shorten or drop it"
            )
        examples.append(example)
    return examples


def count_targets(examples: Sequence[Example]) -> int:
    """Assistant tokens in all the examples."""
    return sum(target != NO_TARGET for example in examples for target in example.targets)


def pad_examples(lm: LanguageModel, examples: Sequence[Example]) -> tuple[Batch, Int[Tensor, "batch pos"]]:
    """One batch padded on the right, and its targets."""
    batch = pad([example.encoded for example in examples], lm.pad_id, side="right", device=lm.device)
    width = batch.input_ids.shape[1]
    padded = [example.targets + (NO_TARGET,) * (width - len(example.targets)) for example in examples]
    return batch, torch.tensor(padded, device=lm.device)


def answer_loss(lm: LanguageModel, batch: Batch, targets: Int[Tensor, "batch pos"]) -> Float[Tensor, ""]:
    """-log P(target) in nats, averaged over the batch's targets, in fp32. `batch` is padded on the right."""
    return nn.functional.cross_entropy(answer_logits(lm, batch, targets).float(), targets[targets != NO_TARGET])


def answer_logits(
    lm: LanguageModel, batch: Batch, targets: Int[Tensor, "batch pos"]
) -> Float[Tensor, "targets d_vocab"]:
    """The logits that predict the targets, row after row. `batch` is padded on the right.

    Logits exist only at positions where some row has a target: with a large vocabulary they, not the activations,
    would fill the memory.
    """
    columns = (targets != NO_TARGET).any(0).nonzero().squeeze(1)
    logits = lm.model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=columns).logits
    return logits[targets[:, columns] != NO_TARGET]


def _encode_row(lm: LanguageModel, row: Row) -> Example:
    whole = encode_chat(lm, row.messages)
    targets = [NO_TARGET] * len(whole.ids)
    for turn, message in enumerate(row.messages):
        if message["role"] != "assistant":
            continue
        part = encode_chat(lm, row.messages[: turn + 1])
        if part.ids != whole.ids[: len(part.ids)]:
            raise AnachronError(
                f"the chat template of {lm.name} writes message {turn + 1} differently once the conversation goes on;"
                " split the row into conversations of one assistant turn"
            )
        targets[part.prompt_len - 1 : len(part.ids) - 1] = part.ids[part.prompt_len :]
    return Example(whole, tuple(targets))
