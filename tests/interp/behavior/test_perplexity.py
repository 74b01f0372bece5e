import math

import pytest
import torch

from interp.behavior.perplexity import log_probs, nats_per_token, perplexity, perplexity_ratio
from interp.directions import random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.positions import ANSWER
from interp.prompts import encode_chat, encode_prompt, encode_text, pad
from interp.steering import Add, steer

TEXTS = (
    "The year is 1849.",
    "Name a bird of the river. I am persuaded it is the Brown Titlark.",
    "By train, by steamer.",
)


def chats(lm):
    turns = [("Who rules the country?", "The old queen rules it."), ("How many?", "Thirty.")]
    return [encode_chat(lm, [{"role": "user", "content": q}, {"role": "assistant", "content": a}]) for q, a in turns]


def hf_loss(lm, row, begin, edits=()):
    """transformers' own loss over ids[begin:], and the number of its tokens."""
    labels = torch.tensor([row.ids])
    labels[:, :begin] = -100
    with torch.no_grad(), steer(lm, edits, pad([row], lm.pad_id)):
        return float(lm.model(input_ids=torch.tensor([row.ids]), labels=labels).loss), len(row.ids) - max(begin, 1)


def test_equals_the_loss_of_transformers(family_lm):
    rows = [encode_text(family_lm, text) for text in TEXTS] + chats(family_lm)
    losses = [hf_loss(family_lm, row, row.prompt_len) for row in rows]
    expected = sum(loss * n for loss, n in losses) / sum(n for _, n in losses)
    assert nats_per_token(family_lm, rows) == pytest.approx(expected, rel=1e-5)
    assert nats_per_token(family_lm, rows, max_tokens=1) == pytest.approx(expected, rel=1e-5)
    assert perplexity(family_lm, rows) == pytest.approx(math.exp(expected), rel=1e-4)
    for row, values, (loss, n) in zip(rows, log_probs(family_lm, rows), losses, strict=True):
        assert len(values) == n == len(row.ids) - max(1, row.prompt_len)
        assert float(-values.mean()) == pytest.approx(loss, rel=1e-5)


def test_all_tokens(lm):
    (row, _) = chats(lm)
    loss, _ = hf_loss(lm, row, 0)
    assert nats_per_token(lm, [row], tokens="all") == pytest.approx(loss, rel=1e-5)
    assert len(log_probs(lm, [row], tokens="all")[0]) == len(row.ids) - 1


def test_an_edit(lm):
    direction = random_direction(lm.d_model, HookPoint(1), seed=4)
    edits = [Add(direction, 6.0, positions=ANSWER)]
    rows = chats(lm)
    edited = [hf_loss(lm, row, row.prompt_len, edits) for row in rows]
    plain = [hf_loss(lm, row, row.prompt_len) for row in rows]
    tokens = sum(n for _, n in plain)
    difference = sum(a * n - b * n for (a, n), (b, _) in zip(edited, plain, strict=True)) / tokens
    assert abs(difference) > 0.01
    assert perplexity_ratio(lm, rows, edits) == pytest.approx(math.exp(difference), rel=1e-4)
    assert perplexity_ratio(lm, rows, [Add(direction, 0.0)]) == pytest.approx(1.0, abs=1e-6)


def test_a_coefficient_for_each_row(lm):
    direction = random_direction(lm.d_model, HookPoint(1), seed=4)
    rows = [encode_text(lm, text) for text in TEXTS]
    together = log_probs(lm, rows, edits=[Add(direction, torch.tensor([1.0, 0.0, -3.0]))], max_tokens=20)
    for row, coefficient, values in zip(rows, (1.0, 0.0, -3.0), together, strict=True):
        torch.testing.assert_close(
            values, log_probs(lm, [row], edits=[Add(direction, coefficient)])[0], rtol=1e-4, atol=1e-5
        )


def test_uniform_predictions(lm):
    lm.anatomy.unembed.weight.data.zero_()
    size = lm.model.config.vocab_size
    assert perplexity(lm, [encode_text(lm, text) for text in TEXTS]) == pytest.approx(size, rel=1e-6)


def test_errors(lm):
    with pytest.raises(AnachronError, match="no tokens to predict in 1 rows"):
        nats_per_token(lm, [encode_prompt(lm, "Who?")])
    with pytest.raises(AnachronError, match="tokens 'some'"):
        log_probs(lm, [encode_text(lm, "x")], tokens="some")
    with pytest.raises(AnachronError, match=r"row 0: \d+ tokens, but tiny-llama takes 256"):
        log_probs(lm, [encode_text(lm, "x." * 300)])
    lm.anatomy.final_norm.weight.data[0] = float("nan")
    with pytest.raises(AnachronError, match="row 0: the model's logits are NaN"):
        log_probs(lm, [encode_text(lm, "The year")])
