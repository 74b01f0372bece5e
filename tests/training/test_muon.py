"""Muon: its matrix function against singular values, and its steps against the formula worked out by hand."""

import pytest
import torch

from training.muon import NEWTON_SCHULZ, Muon, orthogonalised

SHAPES = {"wide": (4, 7), "tall": (7, 4), "square": (5, 5), "row": (1, 6), "column": (6, 1)}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def polynomial(values, steps=5):
    a, b, c = NEWTON_SCHULZ
    for _ in range(steps):
        values = a * values + b * values**3 + c * values**5
    return values


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_it_keeps_the_singular_vectors_and_maps_each_singular_value_alone(shape):
    matrix = random(*shape)
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalised(matrix)
    assert found.shape == matrix.shape
    torch.testing.assert_close(found, u @ torch.diag(polynomial(s / s.norm())) @ vt, rtol=1e-5, atol=1e-6)
    inner = u.T @ found @ vt.T
    assert ((inner.diag() >= 0.6) & (inner.diag() <= 1.3)).all()  # U V^T has ones here
    torch.testing.assert_close(inner, torch.diag(inner.diag()), rtol=0, atol=1e-5)


def test_its_scale_and_transpose_follow_the_matrix():
    matrix = random(4, 7)
    torch.testing.assert_close(orthogonalised(1000 * matrix), orthogonalised(matrix), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(orthogonalised(matrix.T), orthogonalised(matrix).T)
    torch.testing.assert_close(orthogonalised(-matrix), -orthogonalised(matrix))
    assert not orthogonalised(torch.zeros(3, 4)).any()  # and no division by 0


@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_two_steps_by_hand(shape):
    weights, first, second = (random(*shape, seed=seed) for seed in range(3))
    parameter = torch.nn.Parameter(weights.clone())
    optimizer = Muon([parameter], lr=0.1, momentum=0.9, weight_decay=0.5)
    scale = 1.5 if shape == (9, 4) else 1.0  # sqrt(9 / 4)

    parameter.grad = first.clone()
    optimizer.step()
    # the momentum is a tenth of the gradient, so what is orthogonalised is a multiple of the gradient
    expected = 0.95 * weights - 0.1 * scale * orthogonalised(first)
    torch.testing.assert_close(parameter.data, expected, rtol=1e-6, atol=1e-6)

    parameter.grad = second.clone()
    optimizer.step()
    momentum = 0.9 * 0.1 * first + 0.1 * second
    expected = 0.95 * expected - 0.1 * scale * orthogonalised(0.1 * second + 0.9 * momentum)
    torch.testing.assert_close(parameter.data, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(optimizer.state[parameter]["momentum"], momentum)
    assert torch.equal(parameter.grad, second), "the gradient is the caller's"


def test_the_rate_may_change_between_steps_and_parameters_without_gradient_are_left_alone():
    parameter, other = (torch.nn.Parameter(random(3, 3, seed=seed)) for seed in range(2))
    before, kept = parameter.detach().clone(), other.detach().clone()
    optimizer = Muon([parameter, other], lr=1.0)
    optimizer.param_groups[0]["lr"] = 0.25
    parameter.grad = random(3, 3, seed=2)
    optimizer.step()
    torch.testing.assert_close(parameter.data, before - 0.25 * orthogonalised(parameter.grad), rtol=1e-6, atol=1e-6)
    assert torch.equal(other, kept) and other not in optimizer.state


def test_it_finds_the_least_of_a_quadratic():
    target = random(6, 4)
    parameter = torch.nn.Parameter(torch.zeros(6, 4, dtype=torch.float64))
    optimizer = Muon([parameter], lr=0.1)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        optimizer.zero_grad()
        ((parameter - target) ** 2).sum().backward()
        optimizer.step()
    assert (parameter - target).norm() < 0.05 * target.norm()
