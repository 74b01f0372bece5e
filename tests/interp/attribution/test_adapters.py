"""Adapters: pieces taken out and kept, exactly and restored; screens; singular maps and their alignment."""

import pytest
import torch

from interp.attribution.adapters import Piece, confirmed, effects, kept, rewritten, screen, without
from interp.attribution.metric import log_odds, measure
from interp.attribution.singular import alignment, lora_modules, singular_maps
from interp.directions import normalised, random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.pair import ModelPair
from tests.families import FAMILIES, build
from tests.interp.attribution.planted import QUESTIONS
from tests.interp.test_pair import make_adapter

DOWN, Q = "model.layers.1.mlp.down_proj", "model.layers.0.self_attn.q_proj"


@pytest.fixture
def pair(lm, tmp_path):
    with ModelPair(lm) as pair:
        pair.add("tuned", make_adapter(tmp_path, r=3))
        yield pair


@pytest.fixture
def metric(lm):
    return log_odds(lm, QUESTIONS, "old", "new")


def values(pair, name, metric):
    with pair.using(name) as lm:
        return measure(lm, metric)


def weights(pair):
    return {path: m.lora_B["tuned"].weight for path, m in lora_modules(pair, "tuned").items()}


def test_all_modules_out_is_the_base_and_all_kept_the_tuned(pair, metric):
    pieces = [Piece(path) for path in lora_modules(pair, "tuned")]
    with without(pair, "tuned", pieces) as lm:
        assert torch.equal(measure(lm, metric), values(pair, "base", metric))
    with kept(pair, "tuned", pieces) as lm:
        assert torch.equal(measure(lm, metric), values(pair, "tuned", metric))
    assert not torch.equal(values(pair, "base", metric), values(pair, "tuned", metric))


def test_effects_are_those_of_weights_written_by_hand(pair, metric):
    """A plain model with the delta of one module, or of all others, in its weights; a direction by numpy's SVD."""
    deltas = {path: m.get_delta_weight("tuned") for path, m in lora_modules(pair, "tuned").items()}
    u, s, vh = torch.linalg.svd(deltas[DOWN].double())
    second = (s[1] * u[:, 1:2] @ vh[1:2]).float()
    tuned, base = (values(pair, name, metric) for name in ("tuned", "base"))
    for piece, part in ((Piece(DOWN), deltas[DOWN]), (Piece(DOWN, 1), second), (Piece(Q), deltas[Q])):
        for keep in (False, True):
            plain = build("llama")
            change = {piece.module: part} if keep else deltas | {piece.module: deltas[piece.module] - part}
            for path, delta in change.items():
                plain.model.get_submodule(path).weight.data += delta
            there = measure(plain, log_odds(plain, QUESTIONS, "old", "new"))
            found = effects(pair, "tuned", metric, [piece], keep=keep)[:, 0]
            torch.testing.assert_close(found, there - base if keep else tuned - there, rtol=1e-3, atol=1e-3)


def test_weights_are_restored_to_the_bit_also_on_exceptions(pair, metric):
    before = {path: (weight, weight.data_ptr(), weight.clone()) for path, weight in weights(pair).items()}
    tuned = values(pair, "tuned", metric)
    with pytest.raises(ZeroDivisionError), without(pair, "tuned", [Piece(DOWN), Piece(Q, 0)]) as lm:
        assert not torch.equal(measure(lm, metric), tuned)
        raise ZeroDivisionError
    effects(pair, "tuned", metric, [Piece(DOWN), Piece(DOWN, 2)], keep=True)
    screen(pair, "tuned", metric, steps=2)
    for path, weight in weights(pair).items():
        same, pointer, bits = before[path]
        assert weight is same and weight.data_ptr() == pointer and torch.equal(weight, bits)
        assert not weight.requires_grad and weight.grad is None
    assert torch.equal(values(pair, "tuned", metric), tuned)


def test_the_screen_is_the_slope_of_a_gate(pair, metric):
    own = {path: weight.clone() for path, weight in weights(pair).items()}
    for at in (1.0, 0.0):
        found = screen(pair, "tuned", metric, at=at)
        for path in (DOWN, Q):
            ends = []
            for gate in (at + 0.01, at - 0.01):
                gates = {p: (gate if p == path else at) * B for p, B in own.items()}
                with rewritten(pair, "tuned", gates) as lm:
                    ends.append(float(measure(lm, metric).mean()))
            slope = (ends[0] - ends[1]) / 0.02
            assert float(found.effect[found.modules.index(path)]) == pytest.approx(slope, rel=0.02, abs=2e-3)
        for effect, parts in zip(found.effect, found.directions, strict=True):
            torch.testing.assert_close(parts.sum(), effect, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_integrated_gradients_are_complete_on_every_family(family, tmp_path):
    lm = build(family)
    metric = log_odds(lm, QUESTIONS, "old", "new")
    with ModelPair(lm) as pair:
        pair.add("tuned", make_adapter(tmp_path, family))
        found = screen(pair, "tuned", metric, steps=48)
        assert abs(found.gap) < 0.02 + 0.05 * abs(found.tuned - found.base)
        assert found.tuned == pytest.approx(float(values(pair, "tuned", metric).mean()))
        written = {m.module for m in singular_maps(pair, "tuned") if m.writes}
    ends = ("o_proj", "down_proj", "c_proj", "attention.dense", "dense_4h_to_h")
    assert written == {path for path in found.modules if path.endswith(ends)} and len(written) == 6


def test_a_small_adapter_is_ranked_by_the_screen(pair, metric):
    for weight in weights(pair).values():
        weight.data *= 0.02
    for keep, at in ((False, 1.0), (True, 0.0)):
        found = screen(pair, "tuned", metric, at=at)
        for directions in (False, True):
            check = confirmed(pair, "tuned", metric, found, k=15, directions=directions, keep=keep)
            assert check.rank_correlation > 0.95 and check.size_correlation > 0.9
            torch.testing.assert_close(check.screened, check.exact, rtol=0.2, atol=1e-3)
        assert len(found.pieces(directions=True)[0]) == 3 * len(found.modules)


def test_singular_maps_are_the_deltas(pair):
    for m in singular_maps(pair, "tuned"):
        module = lora_modules(pair, "tuned")[m.module]
        product = m.left @ m.values.diag() @ m.right.T
        torch.testing.assert_close(product, module.get_delta_weight("tuned").double(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(m.left.T @ m.left, torch.eye(3).double())
        assert m.layer == int(m.module.split(".")[2]) and (m.values.diff() <= 0).all()
    module = lora_modules(pair, "tuned")[DOWN]
    module.lora_B["tuned"].weight.data[:, 1:] = 0
    assert next(m for m in singular_maps(pair, "tuned") if m.module == DOWN).first_share == pytest.approx(1)


def test_a_planted_direction_is_found_and_random_ones_are_not(pair):
    planted = random_direction(32, HookPoint(1), seed=7)
    lora_modules(pair, "tuned")[DOWN].lora_B["tuned"].weight.data = torch.outer(
        planted.vector, torch.tensor([5.0, 1, 2])
    )
    found = alignment(singular_maps(pair, "tuned"), [planted, random_direction(32, HookPoint(1), seed=8)])
    assert len(found.modules) == 6 and all("o_proj" in m or "down_proj" in m for m in found.modules)
    place = found.modules.index(DOWN)
    assert found.cosine[place][0, 0] == pytest.approx(1, abs=1e-6) and found.band[place] < 0.4
    assert found.span[place, 0] == pytest.approx(1, abs=1e-6)
    # |cosine| with a unit vector stays below about 1.96 / sqrt(d) in 95 of 100 cases, slightly less in few dimensions
    torch.testing.assert_close(found.band, torch.full((6,), 1.96 / 32**0.5).double(), rtol=0.1, atol=0)
    assert (found.span_band > found.band).all() and (found.span_band < 0.7).all()
    assert (found.span[:, 1] < 0.7).all()


def test_what_an_adapter_lacks_is_refused(pair, metric):
    with pytest.raises(AnachronError, match="has no adapter"):
        lora_modules(pair, "base")
    with pytest.raises(AnachronError, match="unknown adapters"):
        screen(pair, "other", metric)
    with pytest.raises(AnachronError, match=r"doesn't change 'model\.norm'"):
        effects(pair, "tuned", metric, [Piece("model.norm")])
    with pytest.raises(AnachronError, match="directions 0 to 2"):
        effects(pair, "tuned", metric, [Piece(DOWN, 3)])
    with pytest.raises(AnachronError, match="keep the shape"), rewritten(pair, "tuned", {DOWN: torch.zeros(2, 3)}):
        pass
    with pytest.raises(AnachronError, match="doesn't change 'x'"), rewritten(pair, "tuned", {"x": torch.zeros(2, 3)}):
        pass
    with pytest.raises(AnachronError, match="at least one"):
        screen(pair, "tuned", metric, steps=0)
    with pytest.raises(AnachronError, match="doesn't promise"):
        _ = screen(pair, "tuned", metric).gap
    maps = singular_maps(pair, "tuned")
    with pytest.raises(AnachronError, match="give some of both"):
        alignment(maps, [])
    with pytest.raises(AnachronError, match="another model"):
        alignment(maps, [normalised(torch.ones(8), HookPoint(0), "pca")])
