"""Ordinary text that an edit should leave alone: which, and its perplexity."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from interp.behavior.perplexity import log_probs
from interp.models import LanguageModel
from interp.prompts import Encoded, encode_chat, encode_text
from interp.stats import Estimate
from interp.steering import Edit
from training.world.world import World


def held_out_documents(lm: LanguageModel, world: World, n: int, seed: int = 0) -> list[Encoded]:
    """Documents of the world that no pretraining has seen, as this model writes them: a conversation through its chat
    template, with the last reply as the answer; a statement as plain text."""
    from training.pretrain import FRESH_SEED

    return [
        encode_chat(lm, document.messages) if document.messages else encode_text(lm, document.text)
        for document in world.documents(FRESH_SEED + seed, n)
    ]


def document_nats(
    lm: LanguageModel, documents: Sequence[Encoded], edits: Sequence[Edit] = ()
) -> Float64[Tensor, "documents 2"]:
    """Per document: nats of its text (of a conversation, of the last reply), and the number of tokens they are of."""
    rows = log_probs(lm, documents, edits=edits)
    return torch.tensor([[-float(row.sum()), len(row)] for row in rows], dtype=torch.float64)


def document_ratio(
    plain: Float64[Tensor, "documents 2"], edited: Float64[Tensor, "documents 2"], *, seed: int = 0, samples: int = 2000
) -> Estimate:
    """Perplexity edited / plain = exp(difference in nats a token) of the same documents, resampled for the interval."""
    values = torch.stack([edited[:, 0] - plain[:, 0], plain[:, 1]]).numpy()
    n = values.shape[1]
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=samples)
    more, tokens = (counts @ row for row in values)
    low, high = np.quantile(np.exp(more / tokens), [0.025, 0.975])
    return Estimate(float(np.exp(values[0].sum() / values[1].sum())), float(low), float(high), n)
