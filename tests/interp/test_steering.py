"""Edits against closed forms, and against a plain loop: one prompt at a time, no padding, no KV cache, own hooks."""

from contextlib import ExitStack

import pytest
import torch

from interp.directions import Direction, normalised, random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.positions import ALL, ANSWER, FROM_LAST_PROMPT, LAST_PROMPT, PROMPT, span
from interp.prompts import Encoded, pad
from interp.steering import Ablate, Add, Clamp, steer, take_rows

D = 32
POINT = HookPoint(1)

# Which tokens each selector means, for a row with `p` prompt tokens: written out independently of interp.positions.
EXPECTED = {
    ALL: lambda i, p: True,
    PROMPT: lambda i, p: i < p,
    LAST_PROMPT: lambda i, p: i == p - 1,
    FROM_LAST_PROMPT: lambda i, p: i >= p - 1,
    ANSWER: lambda i, p: i >= p,
    span(1, 3): lambda i, p: i in (1, 2),
}
KINDS = pytest.mark.parametrize("positions", EXPECTED, ids=lambda positions: positions.name)


def direction(seed, point=POINT, d_model=D):
    return random_direction(d_model, point, seed)


def correlated(n, point=POINT, seed=50):
    shared = direction(seed).vector
    return [normalised(direction(seed + 1 + i).vector + 0.7 * shared, point, "random") for i in range(n)]


def rows(*shapes, seed=0):
    """Encoded rows of (prompt length, answer length)."""
    generator = torch.Generator().manual_seed(seed)
    return [Encoded(tuple(torch.randint(6, 300, (p + a,), generator=generator).tolist()), p) for p, a in shapes]


COEFFICIENTS = torch.tensor([1.5, -2.0, 0.5])


def edits_at(positions):
    """One edit of each kind, at three layers; a coefficient per row."""
    return [
        Add(direction(1, HookPoint(0)), COEFFICIENTS, scale=4.0, positions=positions),
        Clamp(direction(2), -3.0, positions=positions),
        Ablate(correlated(3, HookPoint(2)), positions=positions),
    ]


def plain_edits(row):
    """The same three, as functions of layer and h [d_model], for one row."""
    basis = torch.linalg.qr(torch.stack([d.vector for d in correlated(3)], dim=1).double())[0]
    add, clamp = direction(1).vector.double(), direction(2).vector.double()
    return [
        lambda h: h + float(COEFFICIENTS[row]) * 4.0 * add,
        lambda h: h - (h @ clamp + 3.0) * clamp,
        lambda h: h - basis @ (basis.T @ h),
    ]


def plain_logits(lm, row, ids, prompt_len, positions):
    """Logits [pos, vocab] of one sequence, whole and uncached, with plain torch hooks on the blocks."""

    def hook_for(function):
        def hook(module, args, output):
            h = output.clone()
            for i in range(h.shape[1]):
                if EXPECTED[positions](i, prompt_len):
                    h[0, i] = function(h[0, i].double()).float()
            return h

        return hook

    with ExitStack() as stack, torch.no_grad():
        for layer, function in zip(lm.anatomy.layers, plain_edits(row), strict=True):
            stack.callback(layer.register_forward_hook(hook_for(function)).remove)
        return lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def plain_generate(lm, row, encoded, positions, n_new):
    """Greedy tokens, the whole sequence again at every step; the end-of-text token (2) is not allowed."""
    ids, logits = list(encoded.ids), []
    for _ in range(n_new):
        last = plain_logits(lm, row, ids, len(encoded.ids), positions)[-1].clone()
        last[2] = -torch.inf
        logits.append(last)
        ids.append(int(last.argmax()))
    return ids[len(encoded.ids) :], torch.stack(logits)


def generate(lm, batch, n_new, **options):
    return lm.model.generate(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        max_new_tokens=n_new,
        min_new_tokens=n_new,
        pad_token_id=0,
        eos_token_id=2,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )


@KINDS
def test_a_padded_forward_equals_prompts_one_by_one(family_lm, positions):
    encoded = rows((7, 3), (2, 1), (4, 6))
    expected = [plain_logits(family_lm, i, e.ids, e.prompt_len, positions) for i, e in enumerate(encoded)]
    for side in ("left", "right"):
        batch = pad(encoded, 0, side)
        with torch.no_grad(), steer(family_lm, edits_at(positions), batch):
            logits = family_lm.model(**batch.inputs).logits
        for row in range(3):
            got = logits[row][batch.attention_mask[row].bool()]
            torch.testing.assert_close(got, expected[row], atol=2e-4, rtol=1e-4)


@KINDS
def test_generate_with_a_cache_equals_prompts_one_by_one_without(family_lm, positions):
    # Three tokens at least: span(1,3) counts tokens of the batch, never generated ones.
    encoded, n_new = rows((7, 0), (3, 0), (5, 0), seed=1), 5
    batch = pad(encoded, 0, "left")
    with torch.no_grad(), steer(family_lm, edits_at(positions), batch):
        out = generate(family_lm, batch, n_new, use_cache=True)
    for row, each in enumerate(encoded):
        tokens, logits = plain_generate(family_lm, row, each, positions, n_new)
        assert out.sequences[row, batch.input_ids.shape[1] :].tolist() == tokens
        scores = torch.stack([s[row] for s in out.scores])
        torch.testing.assert_close(scores, logits, atol=2e-4, rtol=1e-4)


@KINDS
def test_the_cache_makes_no_difference(lm, positions):
    batch = pad(rows((7, 0), (2, 0), (5, 0), seed=2), 0, "left")
    with torch.no_grad(), steer(lm, edits_at(positions), batch):
        cached, whole = generate(lm, batch, 6, use_cache=True), generate(lm, batch, 6, use_cache=False)
    assert torch.equal(cached.sequences, whole.sequences)


def test_rows_repeated_by_generate_keep_their_edits(lm):
    encoded = rows((7, 0), (2, 0), (5, 0), seed=3)
    batch, edits = pad(encoded, 0, "left"), edits_at(FROM_LAST_PROMPT)
    seen = []
    with torch.no_grad(), steer(lm, edits, batch):
        beams = generate(lm, batch, 4, num_beams=2, num_return_sequences=2)
        repeated = lm.model(**{name: x.repeat_interleave(2, dim=0) for name, x in batch.inputs.items()}).logits
        plain = lm.model(**batch.inputs).logits
    torch.testing.assert_close(repeated, plain.repeat_interleave(2, dim=0), atol=1e-4, rtol=1e-4)
    # A beam's score is the mean log-probability of its tokens: recompute it one beam at a time.
    for beam, score in zip(
        beams.sequences[:, batch.input_ids.shape[1] :].tolist(), beams.sequences_scores, strict=True
    ):
        row = len(seen) // 2
        seen.append(beam)
        prompt = list(encoded[row].ids)
        logits = plain_logits(lm, row, prompt + beam, len(prompt), FROM_LAST_PROMPT)[len(prompt) - 1 : -1]
        expected = logits.log_softmax(dim=-1)[range(4), beam].mean()
        torch.testing.assert_close(score, expected, atol=1e-4, rtol=1e-4)
    assert len(seen) == 6


def test_take_rows_splits_a_batch(lm):
    encoded = rows((7, 3), (2, 1), (4, 6))
    edits = edits_at(FROM_LAST_PROMPT)
    batch = pad(encoded, 0)
    with torch.no_grad(), steer(lm, edits, batch):
        whole = lm.model(**batch.inputs).logits[:, -1]
    picked = pad([encoded[2], encoded[0]], 0)
    with torch.no_grad(), steer(lm, take_rows(edits, [2, 0]), picked):
        part = lm.model(**picked.inputs).logits[:, -1]
    torch.testing.assert_close(part, whole[[2, 0]], atol=1e-4, rtol=1e-4)


def hooks_on(lm):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules())


def test_the_model_is_restored_after_the_block_and_after_an_exception(lm):
    batch = pad(rows((5, 2), (3, 3), (4, 4)), 0)
    with torch.no_grad():
        before = lm.model(**batch.inputs).logits
        with pytest.raises(RuntimeError, match="from inside"), steer(lm, edits_at(ALL), batch):
            assert hooks_on(lm) > 0
            assert not torch.equal(lm.model(**batch.inputs).logits, before)
            raise RuntimeError("from inside")
        assert hooks_on(lm) == 0
        assert torch.equal(lm.model(**batch.inputs).logits, before)
        with steer(lm, [Add(direction(12), 0.0)], batch):
            assert torch.equal(lm.model(**batch.inputs).logits, before)


def broken_edits():
    u = direction(13)
    nan, inf = float("nan"), float("inf")
    yield "other_model", lambda: Add(direction(13, d_model=48), 1.0), "48 entries.*d_model 32"
    yield "other_model_ablate", lambda: Ablate([u, direction(13, d_model=48)]), "48 entries.*d_model 32"
    yield "layer", lambda: Clamp(u, 0.0, points=[HookPoint(3)]), "layers 0 to 2"
    yield "own_layer", lambda: Ablate([direction(13, HookPoint(7))]), "layers 0 to 2"
    yield "nan_direction", lambda: Add(Direction(u.vector * nan, POINT, "random", 1.0), 1.0), "NaN"
    yield "nan_coefficient", lambda: Add(u, nan), "coefficient"
    yield "nan_coefficients", lambda: Add(u, torch.tensor([1.0, nan])), "coefficient"
    yield "coefficients", lambda: Add(u, torch.ones(3)), r"\[3\] coefficients for a batch of 2"
    yield "inf_scale", lambda: Add(u, 1.0, scale=inf), "scale"
    yield "nan_mean", lambda: Clamp(u, nan), "mean"
    yield "no_directions", lambda: Ablate([]), "no directions"
    yield "no_points", lambda: Add(u, 1.0, points=[]), "empty list of points"


@pytest.mark.parametrize(("make", "says"), [pytest.param(m, s, id=i) for i, m, s in broken_edits()])
def test_edits_that_do_not_fit_are_refused_before_any_forward(lm, make, says):
    batch = pad(rows((5, 2), (3, 3)), 0)
    with pytest.raises(AnachronError, match=says), steer(lm, [make()], batch):
        pytest.fail("steer entered")
    assert hooks_on(lm) == 0


def test_a_forward_of_another_batch_is_refused(lm):
    batch, other = pad(rows((5, 2), (3, 3)), 0), pad(rows((5, 2), (3, 3), (1, 1)), 0)
    short = pad(rows((2, 0), (3, 0)), 0)
    with torch.no_grad(), steer(lm, [Add(direction(14), 1.0)], batch):
        for wrong in (other, short):
            with pytest.raises(AnachronError, match="one steer block per batch"):
                lm.model(**wrong.inputs)
