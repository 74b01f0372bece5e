"""Metrics: the log-odds are scoring's, they have the right gradients, and user's functions of logits are taken."""

from weakref import WeakKeyDictionary

import pytest
import torch

from interp.attribution.gradients import backward
from interp.attribution.metric import from_logits, log_odds, measure, measure_pair
from interp.behavior import plans
from interp.behavior.questions import Question
from interp.behavior.scoring import score
from interp.directions import random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.pair import ModelPair
from interp.positions import ALL, ANSWER, PROMPT, span
from interp.prompts import encode_prompt
from interp.steering import Add
from tests.interp.attribution.planted import BIRD, OPEN, PROMPTS, QUESTIONS, TRAVEL
from tests.interp.behavior.toy import chain
from tests.interp.test_pair import make_adapter


def asked(text):
    return ({"role": "user", "content": text},)


def by_scoring(lm, questions, a, b, **options):
    scores = score(lm, questions, **options)
    columns = [[scores.groups.index(g) for g in groups] for groups in (a, b)]
    mass = [scores.probability[:, c].sum(1) for c in columns]
    return (mass[0] / mass[1]).log()


@pytest.mark.parametrize("nodes", [200, 6])
@pytest.mark.parametrize("max_tokens", [2048, 1])
def test_log_odds_are_scorings_on_every_family(family_lm, monkeypatch, nodes, max_tokens):
    monkeypatch.setattr(plans, "TREE_NODES", nodes)
    monkeypatch.setattr(plans, "_plans", WeakKeyDictionary())
    metric = log_odds(family_lm, QUESTIONS, "old", ("new", "none"), max_tokens=max_tokens)
    assert len(metric.parts) == (2 if max_tokens == 1 else 1)
    assert (max(len(part.keys) for part in metric.parts) > 2) == (nodes == 6)
    expected = by_scoring(family_lm, QUESTIONS, ["old"], ["new", "none"])
    torch.testing.assert_close(measure(family_lm, metric), expected, rtol=1e-5, atol=1e-5)


def test_log_odds_by_hand():
    """P(a .) = .3 x .5, P(b) = .2 with its ends .5 (.) and .1 (the end of the turn), P(c x) = .5 x .4 x 1."""
    lm = chain(
        {
            "<|assistant|>": {"a": 0.3, "b": 0.2, "c": 0.5},
            "a": {".": 0.5, "x": 0.5},
            "b": {".": 0.5, "<|end|>": 0.1, "x": 0.4},
            "c": {"x": 0.4, "y": 0.6},
            "x": {".": 1.0},
        }
    )
    groups = {"one": ("a", "c x"), "two": ("b",), "three": ("y",)}
    question = Question("q", "t", asked("which"), groups, terminators=(" .",))
    metric = log_odds(lm, [question], "one", "two")
    expected = torch.tensor((0.3 * 0.5 + 0.5 * 0.4) / (0.2 * 0.6)).log().double()
    torch.testing.assert_close(measure(lm, metric)[0], expected, rtol=1e-5, atol=1e-5)
    whole = log_odds(lm, [question], ["one", "three"], "two")
    torch.testing.assert_close(measure(lm, whole)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("site", ["resid_pre", "resid_post"])
def test_gradients_are_finite_differences(family_lm, monkeypatch, site):
    """The change of scoring's own log-odds when all positions are moved along a direction, prompt or answers."""
    monkeypatch.setattr(plans, "TREE_NODES", 6)
    monkeypatch.setattr(plans, "_plans", WeakKeyDictionary())
    point = HookPoint(1, site)
    direction = random_direction(family_lm.d_model, point, seed=2)
    metric = log_odds(family_lm, QUESTIONS, "old", "new")
    for positions in (PROMPT, ANSWER):
        found = torch.zeros(2, dtype=torch.float64)
        for part in metric.parts:
            gradient = backward(family_lm, metric, part, [point, HookPoint(2)]).gradients[point]
            along = torch.where(part.selected(positions), gradient @ direction.vector, 0.0)
            found[list(part.items)] = part.by_item(along.sum(1))
        ends = [
            by_scoring(family_lm, QUESTIONS, ["old"], ["new"], edits=[Add(direction, c, positions=positions)])
            for c in (0.02, -0.02)
        ]
        torch.testing.assert_close(found, (ends[0] - ends[1]) / 0.04, rtol=2e-2, atol=2e-3)


def test_a_tap_changes_nothing_and_weights_stay_frozen(lm):
    metric = log_odds(lm, QUESTIONS, "old", "new")
    values = measure(lm, metric)
    for part in metric.parts:
        found = backward(lm, metric, part, [HookPoint(0), HookPoint(2, "attn_out")])
        assert torch.equal(found.values, values[list(part.items)])
        assert not found.gradients[HookPoint(0)].requires_grad
    assert not any(p.requires_grad or p.grad is not None for p in lm.model.parameters())
    assert torch.equal(measure(lm, metric), values)


def test_a_pair_and_its_difference(lm, tmp_path):
    metric = log_odds(lm, QUESTIONS, "old", "new")
    with ModelPair(lm) as pair:
        pair.add("tuned", make_adapter(tmp_path))
        found = measure_pair(pair, metric, "tuned")
        with pair.using("tuned") as tuned:
            expected = by_scoring(tuned, QUESTIONS, ["old"], ["new"])
    base = by_scoring(lm, QUESTIONS, ["old"], ["new"])
    torch.testing.assert_close(found.difference, expected - base, rtol=1e-5, atol=1e-5)
    assert found.ids == ("bird", "travel")


def test_prompts_in_place_of_the_questions_own(lm):
    other = Question("other", "birds", asked("Who rules?"), BIRD.answers, BIRD.openers, BIRD.terminators)
    prompt = encode_prompt(lm, other.messages).ids
    metric = log_odds(lm, [BIRD], "old", "new", prompts=[prompt])
    assert metric.prompts == (prompt,)
    torch.testing.assert_close(measure(lm, metric), by_scoring(lm, [other], ["old"], ["new"]), rtol=1e-5, atol=1e-5)


def test_a_function_of_logits(family_lm):
    lm = family_lm
    encoded = [encode_prompt(lm, p) for p in PROMPTS]
    metric = from_logits(lm, encoded, lambda logits, batch: logits[:, -1, 7] - logits[:, -1, 9], "7 : 9", max_tokens=1)
    assert len(metric.parts) == 3
    with torch.no_grad():
        alone = [lm.model(input_ids=torch.tensor([row.ids])).logits[0, -1] for row in encoded]
    expected = torch.stack([row[7] - row[9] for row in alone]).double()
    torch.testing.assert_close(measure(lm, metric), expected, rtol=1e-4, atol=1e-4)


def test_parts_of_a_tree_are_not_selected(lm):
    part = log_odds(lm, QUESTIONS, "old", "new").parts[0]
    assert torch.equal(part.selected(ALL), part.batch.attention_mask.bool())
    with pytest.raises(AnachronError, match="inside the answers"):
        part.selected(span(2, len(encode_prompt(lm, BIRD.messages).ids) + 2))


@pytest.mark.parametrize(
    ("questions", "a", "b", "options", "message"),
    [
        ([], "old", "new", {}, "no questions"),
        ([BIRD], "old", ("old", "new"), {}, "on both sides"),
        ([BIRD], "old", "future", {}, r"'bird' has no groups \['future'\]"),
        ([BIRD, TRAVEL], "old", "none", {}, "'travel' has no answers in"),
        ([Question("o", "t", asked("What?"))], "old", "new", {}, "open one"),
        ([BIRD], "old", "new", {"prompts": []}, "0 prompts for 1 questions"),
        ([BIRD], "old", "new", {"prompts": [()]}, "no tokens at all"),
        ([BIRD], "old", "new", {"prompts": [(5,) * 300]}, "takes 256"),
    ],
)
def test_what_cannot_be_attributed_is_refused(lm, questions, a, b, options, message):
    with pytest.raises(AnachronError, match=message):
        log_odds(lm, questions, a, b, **options)


def test_wrong_functions_and_values_are_refused(lm):
    encoded = [encode_prompt(lm, p) for p in PROMPTS]
    with pytest.raises(AnachronError, match="one number a row"):
        measure(lm, from_logits(lm, encoded, lambda logits, batch: logits[:, -1], "wrong"))
    with pytest.raises(AnachronError, match="no rows"):
        from_logits(lm, [], lambda logits, batch: logits[:, 0, 0], "none")
    with pytest.raises(AnachronError, match="2 ids for 3 rows"):
        from_logits(lm, encoded, lambda logits, batch: logits[:, 0, 0], "ids", ids=["a", "b"])
    lm.model.lm_head.weight.data[:] = float("nan")
    metric = from_logits(lm, encoded, lambda logits, batch: logits[:, -1, 0], "broken", ids=["a", "b", "c"])
    with pytest.raises(AnachronError, match=r"broken of item '[abc]' is NaN"):
        measure(lm, metric)


def test_an_answer_that_nothing_ends_counts_as_in_scoring(lm):
    metric = log_odds(lm, [OPEN], "old", "new")
    torch.testing.assert_close(measure(lm, metric), by_scoring(lm, [OPEN], ["old"], ["new"]), rtol=1e-5, atol=1e-5)
