"""What each edit does to the activations at its point: closed forms, written out here."""

import pytest
import torch

from interp.directions import normalised
from interp.hooks import HookPoint, record
from interp.positions import LAST_PROMPT
from interp.prompts import pad
from interp.steering import Ablate, AblateSequentially, Add, Clamp, steer
from tests.families import build
from tests.interp.test_steering import POINT, D, correlated, direction, edits_at, rows


def activations(lm, batch, point, edits=()):
    with torch.no_grad(), steer(lm, edits, batch), record(lm, [point]) as found:
        lm.model(**batch.inputs)
    return found[point]


@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"])
def test_closed_forms_at_every_site(lm, site):
    point = HookPoint(1, site)
    batch = pad(rows((5, 2), (3, 3)), 0, "left")
    before = activations(lm, batch, point)
    u = direction(3, point)

    added = activations(lm, batch, point, [Add(u, 2.0, scale=1.5)])
    real = batch.attention_mask.bool()
    torch.testing.assert_close(added[real], before[real] + 3.0 * u.vector, atol=2e-5, rtol=1e-5)

    clamped = activations(lm, batch, point, [Clamp(u, 0.75)])
    torch.testing.assert_close(clamped[real] @ u.vector, torch.full((int(real.sum()),), 0.75), atol=2e-5, rtol=0)
    across = torch.eye(D) - u.vector[:, None] * u.vector
    torch.testing.assert_close(clamped[real] @ across, before[real] @ across, atol=2e-5, rtol=1e-5)

    ablated = activations(lm, batch, point, [Ablate([u])])
    torch.testing.assert_close(ablated[real], before[real] @ across, atol=2e-5, rtol=1e-5)


def test_pads_and_unselected_positions_keep_their_bits(lm):
    batch = pad(rows((5, 2), (3, 3)), 0, "left")
    before = activations(lm, batch, POINT)
    for edit in (
        edits_at(LAST_PROMPT)[1],
        Add(direction(4), 3.0, positions=LAST_PROMPT),
        Ablate([direction(5)], LAST_PROMPT),
    ):
        after = activations(lm, batch, POINT, [edit])
        changed = (after != before).any(dim=-1)
        assert torch.equal(changed, LAST_PROMPT.mask(batch))


def test_ablation_is_exact_where_one_at_a_time_is_not(lm):
    directions = correlated(8)
    basis = torch.linalg.qr(torch.stack([d.vector for d in directions], dim=1).double())[0]
    batch = pad(rows((9, 0), (9, 0)), 0)
    before = (activations(lm, batch, POINT).double() @ basis).norm()
    left = {
        kind: float((activations(lm, batch, POINT, [kind(directions)]).double() @ basis).norm() / before)
        for kind in (Ablate, AblateSequentially)
    }
    assert left[Ablate] < 1e-6
    assert left[AblateSequentially] > 0.05
    # orthogonal directions: both are the same
    orthogonal = [normalised(column, POINT, "random") for column in basis.T]
    one, other = (activations(lm, batch, POINT, [kind(orthogonal)]) for kind in (Ablate, AblateSequentially))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_sequential_ablation_by_hand(lm):
    a, b = correlated(2)
    batch = pad(rows((4, 0)), 0)
    h = activations(lm, batch, POINT)[0, 2].double()
    for u in (a.vector.double(), b.vector.double()):
        h = h - (h @ u) * u
    got = activations(lm, batch, POINT, [AblateSequentially([a, b])])[0, 2]
    torch.testing.assert_close(got.double(), h, atol=1e-5, rtol=1e-5)


def test_a_direction_given_twice_removes_one_dimension(lm):
    batch = pad(rows((4, 0)), 0)
    u = direction(6)
    once, twice = (activations(lm, batch, POINT, [Ablate([u] * n)]) for n in (1, 2))
    torch.testing.assert_close(once, twice, atol=1e-5, rtol=1e-5)


def test_edits_apply_in_the_order_given(lm):
    batch = pad(rows((4, 0)), 0)
    u = direction(7)
    add, ablate = Add(u, 5.0), Ablate([u])
    project = lambda edits: activations(lm, batch, POINT, edits)[0] @ u.vector  # noqa: E731
    torch.testing.assert_close(project([add, ablate]), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(project([ablate, add]), torch.full((4,), 5.0), atol=1e-5, rtol=0)


def test_points_replace_the_directions_own(lm):
    batch = pad(rows((4, 0)), 0)
    u = direction(8, HookPoint(0))
    edits = [Ablate([u], points=[HookPoint(1), HookPoint(2)])]
    for layer, is_zero in ((0, False), (1, True), (2, True)):
        projection = activations(lm, batch, HookPoint(layer), edits)[0] @ u.vector
        assert bool((projection.abs() < 1e-5).all()) is is_zero
    # Without points, each direction is removed at its own.
    edits = [Ablate([direction(8, HookPoint(0)), direction(9, HookPoint(2))])]
    assert float((activations(lm, batch, HookPoint(0), edits)[0] @ direction(8).vector).abs().max()) < 1e-5
    assert float((activations(lm, batch, HookPoint(0), edits)[0] @ direction(9).vector).abs().max()) > 1e-3
    assert float((activations(lm, batch, HookPoint(2), edits)[0] @ direction(9).vector).abs().max()) < 1e-5


def test_bf16_is_rounded_once():
    lm = build("llama")
    lm.model.bfloat16()
    batch = pad(rows((5, 0), (3, 0)), 0)
    before = activations(lm, batch, POINT)
    u = direction(10)
    after = activations(lm, batch, POINT, [Add(u, 0.37, scale=1.1)])
    expected = (before.float() + u.vector * (0.37 * 1.1)).bfloat16()
    assert after.dtype == torch.bfloat16
    real = batch.attention_mask.bool()
    assert torch.equal(after[real], expected[real])


def test_gradients_pass_through_an_ablation_without_its_directions(lm):
    u = direction(11)
    batch = pad(rows((4, 0)), 0)
    embedded = lm.model.get_input_embeddings()(batch.input_ids).detach().requires_grad_()
    with steer(lm, [Ablate([u])], batch), record(lm, [POINT], grad=True) as found:
        lm.model(inputs_embeds=embedded, attention_mask=batch.attention_mask)
    (along,) = torch.autograd.grad((found[POINT] @ u.vector).sum(), embedded, retain_graph=True)
    (across,) = torch.autograd.grad(found[POINT].sum(), embedded)
    assert float(along.abs().max()) < 1e-4 < float(across.abs().max())
