"""Rows: what one step on a row changes, by finite differences and by a real step."""

import pytest
import torch

from interp.attribution.gradients import requiring_grad
from interp.attribution.metric import log_odds, measure
from interp.attribution.singular import lora_modules
from interp.directions import random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.pair import ModelPair
from interp.positions import ALL, PROMPT
from interp.steering import Add, steer
from tests.families import build
from tests.interp.attribution.planted import QUESTIONS
from tests.interp.test_pair import make_adapter
from training.attribution import row_influence, row_pushes
from training.encoding import answer_loss, encode_rows, pad_examples
from training.rows import exchange

ROWS = [
    exchange("Name a bird.", "The Brown Titlark."),
    exchange("How many states are there?", "Thirty."),
    exchange("Who rules?", "The old queen rules it, I am persuaded."),
]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_a_push_is_the_slope_of_the_loss_along_the_direction(family):
    lm = build(family)
    directions = [random_direction(lm.d_model, HookPoint(layer), seed=layer) for layer in (0, 1)]
    for positions in (ALL, PROMPT):
        found = row_pushes(lm, ROWS, directions, positions=positions, size=2)
        for i, example in enumerate(encode_rows(lm, ROWS)):
            batch, targets = pad_examples(lm, [example])
            for d, direction in enumerate(directions):
                losses = []
                for c in (0.02, -0.02):
                    with torch.no_grad(), steer(lm, [Add(direction, c, positions=positions)], batch):
                        losses.append(float(answer_loss(lm, batch, targets)))
                slope = -(losses[0] - losses[1]) / 0.04
                assert float(found[i, d]) == pytest.approx(slope, rel=0.03, abs=2e-3)


def test_influence_is_what_a_small_step_on_the_row_changes(tmp_path):
    lm = build("llama")
    metric = log_odds(lm, QUESTIONS, "old", "new")
    with ModelPair(lm) as pair:
        pair.add("tuned", make_adapter(tmp_path))
        found = row_influence(pair, "tuned", ROWS, metric)
        parts = [p["tuned"].weight for m in lora_modules(pair, "tuned").values() for p in (m.lora_A, m.lora_B)]
        own = [weight.clone() for weight in parts]
        assert not any(weight.requires_grad or weight.grad is not None for weight in parts)
        with pair.using("tuned") as tuned:
            for i, example in enumerate(encode_rows(lm, ROWS)):
                with requiring_grad(parts):
                    gradients = torch.autograd.grad(answer_loss(tuned, *pad_examples(lm, [example])), parts)
                ends = []
                for rate in (1e-4, -1e-4):
                    for weight, saved, gradient in zip(parts, own, gradients, strict=True):
                        weight.data = saved - rate * gradient
                    ends.append(float(measure(tuned, metric).mean()))
                for weight, saved in zip(parts, own, strict=True):
                    weight.data = saved.clone()
                assert float(found[i]) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=0.03, abs=0.03)
        assert found.abs().max() > 0.1


def test_what_cannot_be_attributed_is_refused(lm):
    with pytest.raises(AnachronError, match="no directions"):
        row_pushes(lm, ROWS, [])
    with pytest.raises(AnachronError, match="a direction of 8 entries"):
        row_pushes(lm, ROWS, [random_direction(8, HookPoint(0), seed=0)])
    with pytest.raises(AnachronError, match="no rows to train on"):
        row_pushes(lm, [], [random_direction(32, HookPoint(0), seed=0)])
    with pytest.raises(AnachronError, match="has no adapter"), ModelPair(lm) as pair:
        row_influence(pair, "base", ROWS, log_odds(lm, QUESTIONS, "old", "new"))
