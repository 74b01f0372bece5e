"""Patching: a run into itself, all of a run into another, one cell in closed form; prompts aligned at their ends."""

from dataclasses import replace

import pytest
import torch

from interp.attribution.metric import from_logits, log_odds, measure
from interp.attribution.patching import both_ways, confirmed_patches, patch_map, patch_screen, prompt_columns
from interp.attribution.source import record_aligned, record_source
from interp.errors import AnachronError
from interp.hooks import HookPoint, record
from interp.pair import ModelPair
from interp.positions import ALL, ANSWER, LAST_PROMPT, PROMPT
from interp.prompts import encode_prompt
from tests.families import build
from tests.interp.attribution.planted import BIRD, PROMPTS, QUESTIONS, Counted, linear, linear_metric, readout
from tests.interp.test_pair import make_adapter

DATED = tuple(
    replace(q, messages=({"role": "user", "content": f"The year is 1849. {q.messages[0]['content']}"},))
    for q in QUESTIONS
)


def points_of(lm):
    return [HookPoint(layer, site) for layer in range(lm.n_layers) for site in lm.anatomy.sites if site != "resid_mid"]


def test_a_run_patched_into_itself_changes_nothing_on_every_family(family_lm):
    metric = log_odds(family_lm, QUESTIONS, "old", "new")
    points = points_of(family_lm)
    source = record_source(family_lm, metric, points)
    columns = (*prompt_columns(metric, 2), ALL)
    found = patch_map(family_lm, metric, source, points, columns)
    assert found.effect.shape == (2, len(points), 4) and not found.effect.any()
    assert not patch_screen(family_lm, metric, source, points, columns).effect.any()
    assert torch.equal(found.clean, measure(family_lm, metric)) and torch.equal(found.source, found.clean)


def test_all_of_a_run_patched_in_is_that_run_on_every_family(family_lm, tmp_path):
    metric = log_odds(family_lm, QUESTIONS, "old", "new")
    family = family_lm.name.removeprefix("tiny-")
    with ModelPair(family_lm) as pair:
        pair.add("tuned", make_adapter(tmp_path, family))
        last = HookPoint(family_lm.n_layers - 1)
        into_base, into_tuned = both_ways(pair, metric, "tuned", [HookPoint(0), last], [ALL, PROMPT, ANSWER])
    for found in (into_base, into_tuned):
        torch.testing.assert_close(found.clean + found.effect[:, 1, 0], found.source, rtol=1e-5, atol=1e-5)
        assert (found.clean - found.source).abs().min() > 1e-3
        assert (found.effect[:, 0] != found.effect[:, 1]).any()
    torch.testing.assert_close(into_base.recovered[1, 0], torch.tensor(1.0).double(), rtol=1e-3, atol=1e-3)


def test_the_last_block_matters_only_where_the_answer_is_read(lm, tmp_path):
    """What the last block passes on at earlier positions is never read."""
    metric = log_odds(lm, QUESTIONS, "old", "new")
    with ModelPair(lm) as pair:
        pair.add("tuned", make_adapter(tmp_path))
        columns = prompt_columns(metric, 5)
        found, _ = both_ways(pair, metric, "tuned", [HookPoint(2)], columns)
    assert [c.name for c in columns] == ["-5", "-4", "-3", "-2", "-1", "answer"]
    assert not found.effect[:, 0, :4].any() and found.effect[0, 0, 4:].all()


def test_on_a_linear_model_cells_are_known():
    lm = linear()
    metric = linear_metric(lm)
    _, v = readout(lm)
    source = record_source(lm, metric, [HookPoint(0), HookPoint(1)])
    g = torch.Generator().manual_seed(0)
    moved = tuple({p: x + torch.randn(x.shape, generator=g) for p, x in a.items()} for a in source.activations)
    source = replace(source, activations=moved)
    columns = prompt_columns(metric)
    found = patch_map(lm, metric, source, list(moved[0]), columns)
    screened = patch_screen(lm, metric, source, list(moved[0]), columns)
    torch.testing.assert_close(found.effect, screened.effect, rtol=1e-3, atol=2e-3)
    part = metric.parts[0]
    with torch.no_grad(), record(lm, list(moved[0])) as clean:
        lm.model(**part.inputs)
    for q, point in enumerate(moved[0]):
        change = ((moved[0][point] - clean[point]) @ v * part.batch.attention_mask).double()
        # all rows are padded on the left, so that the prompts end together
        torch.testing.assert_close(screened.effect[list(part.items), q, :-1], change, rtol=1e-3, atol=1e-3)
    check = confirmed_patches(lm, metric, source, screened, k=6)
    assert check.rank_correlation == pytest.approx(1)
    assert check.labels[0].startswith(("0.resid_post at -", "1.resid_post at -"))


def test_small_changes_are_screened_right_on_every_family(family_lm):
    metric = log_odds(family_lm, QUESTIONS, "old", "new")
    points = points_of(family_lm)
    source = record_source(family_lm, metric, points)
    g = torch.Generator().manual_seed(1)
    moved = tuple({p: x + 0.01 * torch.randn(x.shape, generator=g) for p, x in a.items()} for a in source.activations)
    counted = replace(family_lm, model=Counted(family_lm.model))
    found = patch_screen(counted, metric, replace(source, activations=moved), points, prompt_columns(metric, 2))
    assert counted.model.calls == 1
    check = confirmed_patches(family_lm, metric, replace(source, activations=moved), found, k=10)
    assert check.rank_correlation > 0.9
    torch.testing.assert_close(check.screened, check.exact, rtol=0.2, atol=5e-4)


def test_a_triggered_run_into_the_neutral_one(family_lm):
    """Prompts of other lengths: of the last block's outputs only those where an answer is read matter."""
    lm = family_lm
    neutral, triggered = (log_odds(lm, q, "old", "new") for q in (QUESTIONS, DATED))
    last = HookPoint(lm.n_layers - 1)
    source = record_aligned(lm, triggered, neutral, [last, HookPoint(0)])
    torch.testing.assert_close(source.values, measure(lm, triggered), rtol=0, atol=0)
    found = patch_map(lm, neutral, source, [last, HookPoint(0)], [ALL, LAST_PROMPT])
    torch.testing.assert_close(found.clean + found.effect[:, 0, 0], source.values, rtol=1e-4, atol=1e-4)
    back = record_aligned(lm, neutral, triggered, [last])
    assert sum(int(k.sum()) for k in back.known) == sum(int(p.batch.attention_mask.sum()) for p in neutral.parts)
    there = patch_map(lm, triggered, back, [last], [ALL])
    torch.testing.assert_close(there.clean + there.effect[:, 0, 0], back.values, rtol=1e-4, atol=1e-4)


def test_a_run_aligned_with_itself_is_its_own_source(lm):
    a, b = log_odds(lm, QUESTIONS, "old", "new"), log_odds(lm, QUESTIONS, "old", "new", max_tokens=1)
    points = [HookPoint(1)]
    aligned = record_aligned(lm, b, a, points)
    own = record_source(lm, a, points)
    for p, part in enumerate(a.parts):
        mask = part.batch.attention_mask.bool()
        assert torch.equal(aligned.known[p], mask)
        x, y = (s.activations[p][points[0]][mask] for s in (aligned, own))
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_patched_is_refused(lm):
    metric = log_odds(lm, QUESTIONS, "old", "new")
    source = record_source(lm, metric, [HookPoint(0)])
    with pytest.raises(AnachronError, match="not at 1"):
        patch_map(lm, metric, source, [HookPoint(1)], [ALL])
    with pytest.raises(AnachronError, match="nothing to patch"):
        patch_map(lm, metric, source, [], [ALL])
    with pytest.raises(AnachronError, match="has layers 0 to 2"):
        record_source(lm, metric, [HookPoint(3)])
    with pytest.raises(AnachronError, match="ask for fewer"):
        prompt_columns(metric, 200)
    with pytest.raises(AnachronError, match="nothing is there to be recovered"):
        _ = patch_map(lm, metric, source, [HookPoint(0)], [ALL]).recovered
    one = log_odds(lm, [BIRD], "old", "new")
    with pytest.raises(AnachronError, match="1 items are to be aligned with 2"):
        record_aligned(lm, one, metric, [HookPoint(0)])
    other = log_odds(lm, [BIRD, replace(BIRD, answers={"old": ("x",), "new": ("y",)})], "old", "new")
    with pytest.raises(AnachronError, match="align equal answers"):
        record_aligned(lm, other, metric, [HookPoint(0)])


def test_rows_of_user_metrics_are_patched_too():
    lm = build("gpt2")
    encoded = [encode_prompt(lm, p) for p in PROMPTS]
    metric = from_logits(lm, encoded, lambda logits, batch: logits[:, -1, 5], "logit of 5", max_tokens=1)
    source = record_source(lm, metric, [HookPoint(1)])
    assert not patch_map(lm, metric, source, [HookPoint(1)], prompt_columns(metric, 1)).effect.any()
