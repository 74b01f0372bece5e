"""Latents: closed forms on a linear model, completeness, what is kept, exact patches by another path."""

from dataclasses import replace

import pytest
import torch

from interp.attribution.latents import LatentPatch, confirmed, exact, gradient_x_activation, screen
from interp.attribution.metric import log_odds, measure
from interp.attribution.source import Source, record_source
from interp.behavior.scoring import score
from interp.errors import AnachronError
from interp.hooks import HookPoint, record
from interp.pair import ModelPair
from interp.positions import ALL, ANSWER, LAST_PROMPT, PROMPT
from interp.steering import ClampLatents
from tests.interp.attribution.planted import (
    PROMPTS,
    QUESTIONS,
    Counted,
    linear,
    linear_metric,
    readout,
    small_sae,
)
from tests.interp.test_pair import make_adapter

SAE = small_sae()


def nudged(lm, metric, size, seed=5):
    """The run's own activations, each moved a little."""
    source = record_source(lm, metric, [SAE.point])
    g = torch.Generator().manual_seed(seed)
    moved = tuple({p: x + size * torch.randn(x.shape, generator=g) for p, x in a.items()} for a in source.activations)
    return replace(source, activations=moved)


def test_on_a_linear_model_estimates_are_exact_and_known():
    lm = linear()
    metric = linear_metric(lm)
    _, v = readout(lm)
    source = nudged(lm, metric, 1.0)
    with torch.no_grad(), record(lm, [SAE.point]) as found:
        part = metric.parts[0]
        lm.model(**part.inputs)
    mask = part.batch.attention_mask[..., None]
    f = SAE.encode(found[SAE.point])
    other = SAE.encode(source.activations[0][SAE.point])
    for patch, change in ((LatentPatch(SAE), -f), (LatentPatch(SAE, source), other - f)):
        expected = torch.zeros(len(PROMPTS), SAE.d_sae, dtype=torch.float64)
        expected[list(part.items)] = ((change * mask).sum(1) * (SAE.W_dec @ v)).double()
        for steps in (None, 1, 3):
            estimate = screen(lm, metric, patch, steps=steps)
            torch.testing.assert_close(estimate.effect, expected, rtol=1e-4, atol=1e-4)
        assert float(estimate.gap.abs().max()) < 1e-3
        torch.testing.assert_close(exact(lm, metric, patch, range(SAE.d_sae)), expected, rtol=1e-3, atol=2e-3)
        check = confirmed(lm, metric, patch, estimate, k=8)
        assert check.rank_correlation == pytest.approx(1) == check.size_correlation
        # with the error's part, the sum is what the whole vector's replacement does
        whole = SAE.b_dec if patch.source is None else source.activations[0][SAE.point]
        everything = (((whole - found[SAE.point]) * mask) @ v).sum(1).double()
        total = estimate.effect.sum(1) + estimate.error
        torch.testing.assert_close(total[list(part.items)], everything, rtol=1e-4, atol=1e-3)


def test_integrated_gradients_are_complete_on_every_family(family_lm):
    metric = log_odds(family_lm, QUESTIONS, "old", "new")
    source = nudged(family_lm, metric, 0.5)
    for patch in (LatentPatch(SAE, source), LatentPatch(SAE, None, PROMPT)):
        gaps = []
        for steps in (1, 16):
            found = screen(family_lm, metric, patch, steps=steps)
            gaps.append(float(found.gap.abs().max()))
        assert gaps[1] < 0.01 + 0.02 * float((found.patched - found.clean).abs().max()), gaps
        assert gaps[1] < gaps[0] or gaps[0] < 1e-3


def test_small_patches_have_their_estimated_effect_on_every_family(family_lm):
    metric = log_odds(family_lm, QUESTIONS, "old", "new")
    patch = LatentPatch(SAE, nudged(family_lm, metric, 0.03), PROMPT)
    found = screen(family_lm, metric, patch)
    check = confirmed(family_lm, metric, patch, found, k=12)
    assert check.rank_correlation > 0.95 and check.size_correlation > 0.9
    torch.testing.assert_close(check.screened, check.exact, rtol=0.2, atol=2e-4)
    assert torch.equal(found.clean, measure(family_lm, metric))


def test_exact_patches_are_those_of_clamped_latents(lm):
    """A zero patch by the steering edit and scoring, which share no code with it."""
    metric = log_odds(lm, QUESTIONS, "old", "new")
    for positions in (ALL, PROMPT, ANSWER, LAST_PROMPT):
        found = exact(lm, metric, LatentPatch(SAE, None, positions), [3, 7])
        for k, latent in enumerate((3, 7)):
            clamp = ClampLatents(SAE, [latent], torch.zeros(1), positions)
            ends = [score(lm, QUESTIONS, edits=edits) for edits in ([], [clamp])]
            odds = [
                (s.probability[:, s.groups.index("old")] / s.probability[:, s.groups.index("new")]).log() for s in ends
            ]
            torch.testing.assert_close(found[:, k], odds[1] - odds[0], rtol=1e-3, atol=1e-4)


def test_gradient_x_activation_is_minus_the_zero_patch_and_takes_two_passes(lm):
    metric = log_odds(lm, QUESTIONS, "old", "new", max_tokens=1)
    counted = replace(lm, model=Counted(lm.model))
    zero = screen(counted, metric, LatentPatch(SAE))
    assert counted.model.calls == len(metric.parts) == 2
    own = gradient_x_activation(lm, metric, SAE)
    assert torch.equal(own.effect, -zero.effect)


def test_a_run_patched_into_itself_changes_nothing(lm):
    metric = log_odds(lm, QUESTIONS, "old", "new")
    patch = LatentPatch(SAE, record_source(lm, metric, [SAE.point]))
    found = screen(lm, metric, patch)
    assert not found.effect.any() and not found.error.any()
    assert not exact(lm, metric, patch, range(SAE.d_sae)).any()


@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
def test_base_to_tuned(lm, tmp_path, activation):
    """All latents and the error patched at the last block together are the tuned run: first order at both ends."""
    fields = {"topk": {"k": 6}, "jumprelu": {"threshold": torch.full((24,), 0.2)}}[activation]
    sae = small_sae(layer=2, activation=activation, **fields)
    metric = log_odds(lm, QUESTIONS, "old", "new")
    with ModelPair(lm) as pair:
        pair.add("tuned", make_adapter(tmp_path))
        with pair.using("tuned") as tuned:
            source = record_source(tuned, metric, [sae.point])
            torch.testing.assert_close(measure(tuned, metric), source.values, rtol=0, atol=0)
        with pair.using("base") as base:
            found = screen(base, metric, LatentPatch(sae, source), steps=8)
            check = confirmed(base, metric, LatentPatch(sae, source), found, k=10)
    assert found.effect.abs().sum() > 0
    assert float(found.gap.abs().max()) < 0.05 * float((found.patched - found.clean).abs().max()) + 0.01
    assert check.rank_correlation > 0.7


def test_tokens_without_counterpart_are_left_alone(lm):
    metric = log_odds(lm, QUESTIONS, "old", "new")
    source = nudged(lm, metric, 1.0)
    nothing = Source(source.activations, tuple(torch.zeros_like(k) for k in source.known), source.values)
    found = screen(lm, metric, LatentPatch(SAE, nothing), steps=2)
    assert not found.effect.any() and torch.equal(found.patched, found.clean)
    assert not exact(lm, metric, LatentPatch(SAE, nothing), [0]).any()


def test_wrong_patches_are_refused(lm):
    metric = log_odds(lm, QUESTIONS, "old", "new")
    with pytest.raises(AnachronError, match="of another model"):
        screen(lm, metric, LatentPatch(small_sae(d_model=16)))
    with pytest.raises(AnachronError, match="at least one"):
        screen(lm, metric, LatentPatch(SAE), steps=0)
    with pytest.raises(AnachronError, match="has 0 to 23"):
        exact(lm, metric, LatentPatch(SAE), [24])
    with pytest.raises(AnachronError, match=r"not at 1\.resid_post"):
        screen(lm, metric, LatentPatch(SAE, record_source(lm, metric, [HookPoint(0)])))
    with pytest.raises(AnachronError, match="doesn't promise completeness"):
        _ = screen(lm, metric, LatentPatch(SAE)).gap
    with pytest.raises(AnachronError, match="at least one"):
        confirmed(lm, metric, LatentPatch(SAE), screen(lm, metric, LatentPatch(SAE)), k=0)
