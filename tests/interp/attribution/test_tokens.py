"""Tokens of the prompt: closed forms on a linear model, completeness, replacing and leaving out by other paths."""

from dataclasses import replace

import pytest
import torch

from interp.attribution import tokens
from interp.attribution.metric import from_logits, log_odds, measure
from interp.attribution.tokens import attribute_tokens, confirmed_tokens, left_out, replaced
from interp.behavior.questions import Question
from interp.errors import AnachronError
from interp.positions import ALL, PROMPT, span
from interp.prompts import encode_answers, encode_prompt
from tests.interp.attribution.planted import BIRD, OPEN, PROMPTS, QUESTIONS, Counted, linear, linear_metric, readout


def others(metric, seed=0):
    """For each item a prompt of other tokens."""
    g = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(6, 400, (len(p),), generator=g).tolist()) for p in metric.prompts]


@pytest.mark.parametrize("kind", ["mean", "token", "prompts"])
def test_on_a_linear_model_estimates_are_exact_and_known(kind):
    lm = linear()
    metric = linear_metric(lm)
    _, v = readout(lm)
    E = lm.model.get_input_embeddings().weight.detach()
    prompts = others(metric)
    baseline = {"mean": "mean", "token": 11, "prompts": prompts}[kind]
    for found in (
        attribute_tokens(lm, metric, baseline),
        attribute_tokens(lm, metric, baseline, steps=3),
        replaced(lm, metric, baseline),
    ):
        for i, (ids, effect) in enumerate(zip(metric.prompts, found.effect, strict=True)):
            instead = {"mean": E.mean(0), "token": E[11], "prompts": E[list(prompts[i])]}[kind]
            torch.testing.assert_close(effect, ((E[list(ids)] - instead) @ v).double(), rtol=1e-4, atol=1e-3)


def test_integrated_gradients_are_complete_on_every_family(family_lm):
    metric = log_odds(family_lm, QUESTIONS, "old", "new")
    for positions in (PROMPT, span(3, 6)):
        prompts = others(metric)
        found = attribute_tokens(family_lm, metric, prompts, steps=40, positions=positions)
        change = found.clean - found.patched
        assert float(found.gap.abs().max()) < 0.02 + 0.05 * float(change.abs().max()), positions
        for effect, ids in zip(found.effect, metric.prompts, strict=True):
            chosen = range(len(ids)) if positions == PROMPT else range(3, 6)
            assert set(effect.nonzero().squeeze(1).tolist()) == set(chosen)
    # with all tokens replaced, the other end is the metric of the other prompts
    whole = attribute_tokens(family_lm, metric, prompts, steps=1)
    there = measure(family_lm, log_odds(family_lm, QUESTIONS, "old", "new", prompts=prompts))
    torch.testing.assert_close(whole.patched, there, rtol=1e-4, atol=1e-4)


def test_replacing_is_asking_with_another_token_on_every_family(family_lm):
    metric = log_odds(family_lm, QUESTIONS, "old", "new", max_tokens=1)
    found = replaced(family_lm, metric, 11)
    assert torch.equal(found.clean, measure(family_lm, metric))
    for item, t in ((0, 2), (1, 4), (0, len(metric.prompts[0]) - 1)):
        prompts = [(*p[:t], 11, *p[t + 1 :]) if i == item else p for i, p in enumerate(metric.prompts)]
        there = measure(family_lm, log_odds(family_lm, QUESTIONS, "old", "new", prompts=prompts))
        torch.testing.assert_close(found.effect[item][t], (found.clean - there)[item], rtol=1e-3, atol=1e-4)


def test_left_out_tokens_are_gone(lm):
    """Answers of one token, so that the odds can be read off one ordinary forward pass."""
    question = Question("one", "states", OPEN.messages, {"old": ("thirty", "a"), "new": ("the", "bird")})
    found = left_out(lm, [BIRD, question], "old", "new")
    prompt = encode_prompt(lm, question.messages).ids
    ids = [path for (path,) in encode_answers(lm, question.messages, ["thirty", "a", "the", "bird"])]
    assert len(found.effect[0]) == len(encode_prompt(lm, BIRD.messages).ids)

    def odds(tokens):
        with torch.no_grad():
            p = lm.model(input_ids=torch.tensor([tokens])).logits[0, -1].double().softmax(0)
        return (p[ids[:2]].sum() / p[ids[2:]].sum()).log()

    expected = [odds(prompt) - odds(prompt[:t] + prompt[t + 1 :]) for t in range(len(prompt))]
    torch.testing.assert_close(found.effect[1], torch.stack(expected), rtol=1e-3, atol=1e-4)


def test_a_question_in_several_rows_has_its_tokens_counted_in_all(lm, monkeypatch):
    from weakref import WeakKeyDictionary

    from interp.behavior import plans

    whole = attribute_tokens(lm, log_odds(lm, QUESTIONS, "old", "new"))
    monkeypatch.setattr(plans, "TREE_NODES", 6)
    monkeypatch.setattr(plans, "_plans", WeakKeyDictionary())
    metric = log_odds(lm, QUESTIONS, "old", "new")
    assert len(metric.parts[0].keys) > 2
    for a, b in zip(attribute_tokens(lm, metric).effect, whole.effect, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    for a, b in zip(
        replaced(lm, metric).effect, replaced(lm, log_odds(lm, QUESTIONS, "old", "new")).effect, strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_the_screen_ranks_small_changes_as_they_are(lm):
    """Ids whose embeddings are made to differ little."""
    E = lm.model.get_input_embeddings().weight
    E.data[:] = E[11] + 0.02 * E.data
    metric = log_odds(lm, QUESTIONS, "old", "new")
    found, exact = attribute_tokens(lm, metric, 11), replaced(lm, metric, 11)
    for item in range(2):
        check = confirmed_tokens(found, exact, item, k=8)
        assert check.rank_correlation > 0.9
        torch.testing.assert_close(check.screened, check.exact, rtol=0.3, atol=3e-3)
    counted = replace(lm, model=Counted(lm.model))
    attribute_tokens(counted, metric, 11)
    assert counted.model.calls == 3, "one pass with gradients, and two that stop at the embeddings"


def test_what_is_no_baseline_is_refused(lm, monkeypatch):
    metric = log_odds(lm, QUESTIONS, "old", "new")
    for baseline, message in (
        ("median", "unknown baseline"),
        (406, "token id 406"),
        ([metric.prompts[0]], "a prompt of its"),
        ([metric.prompts[0][1:], metric.prompts[1]], "'bird': its baseline"),
    ):
        with pytest.raises(AnachronError, match=message):
            attribute_tokens(lm, metric, baseline)
    with pytest.raises(AnachronError, match="beyond the prompt"):
        attribute_tokens(lm, metric, positions=ALL)
    with pytest.raises(AnachronError, match="at least one"):
        attribute_tokens(lm, metric, steps=0)
    with pytest.raises(AnachronError, match="doesn't promise"):
        _ = attribute_tokens(lm, metric).gap
    one = from_logits(lm, [encode_prompt(lm, p) for p in PROMPTS], lambda x, batch: x[:, -1, 3], "one")
    with pytest.raises(AnachronError, match="other prompts"):
        confirmed_tokens(attribute_tokens(lm, metric), replaced(lm, one), 0)
    monkeypatch.setattr(tokens, "log_odds", lambda *a, **k: replace(log_odds(*a), prompts=((5,),)))
    with pytest.raises(AnachronError, match="of one token"):
        left_out(lm, [BIRD], "old", "new")
