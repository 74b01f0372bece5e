"""What a direction is made of: closed forms for orthogonal rows, planted sums among crowded ones."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from interp.dictionaries.composition import cosines, decompose
from interp.directions import normalised, random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from tests.interp.dictionaries.planted import Planted, identity_like, random_dictionary

POINT = HookPoint(1)


def test_cosines_equal_torchs_and_a_row_of_zeros_has_none():
    dictionary = random_dictionary(24, 300)
    rows = dictionary.decoder * torch.linspace(0.1, 9, 300)[:, None]
    rows[5] = 0
    scaled = Planted(dictionary.encoder, rows, dictionary.bias)
    direction = random_direction(24, POINT, 3)
    expected = torch.nn.functional.cosine_similarity(rows, direction.vector[None])
    torch.testing.assert_close(cosines(direction, scaled), expected)
    assert float(cosines(direction, scaled)[5]) == 0.0


def test_orthogonal_rows_give_the_coordinates():
    vector = torch.zeros(8)
    vector[[1, 4, 6]] = torch.tensor([2.0, -1.0, 0.5])
    direction = normalised(vector, POINT, "truth")
    parts = decompose(direction, identity_like(8), explained=1.0)
    # the negative coordinate is the positive part of the mirrored latent
    assert [part.latent for part in parts] == [1, 12, 6]
    assert [part.coefficient for part in parts] == pytest.approx([c / 5.25**0.5 for c in (2.0, 1.0, 0.5)])
    assert [part.explained for part in parts] == pytest.approx([4 / 5.25, 5 / 5.25, 1.0])
    assert [part.cosine for part in parts] == pytest.approx([part.coefficient for part in parts])


def test_a_planted_sum_is_found_among_many_rows():
    dictionary = random_dictionary(256, 2000)
    planted = {17: 1.0, 400: 0.8, 1999: 0.6}
    vector = sum(c * dictionary.decoder[j] for j, c in planted.items())
    parts = decompose(normalised(vector, POINT, "truth"), dictionary, explained=0.999)
    assert {part.latent for part in parts} == set(planted)
    norm = float(vector.norm())
    for part in parts:
        assert part.coefficient * norm == pytest.approx(planted[part.latent], rel=1e-3)


def test_coefficients_are_the_non_negative_least_squares_ones():
    dictionary = random_dictionary(16, 60)
    direction = random_direction(16, POINT, 8)
    parts = decompose(direction, dictionary, most=6, explained=1.0)
    basis = torch.stack([dictionary.decoder[part.latent] for part in parts], dim=1).double().numpy()
    expected, residual = nnls(basis, direction.vector.double().numpy())
    np.testing.assert_allclose([part.coefficient for part in parts], expected, rtol=1e-5)
    assert parts[-1].explained == pytest.approx(1 - residual**2)
    shares = [part.explained for part in parts]
    assert shares == sorted(shares) and all(part.coefficient > 0 for part in parts)


def test_nothing_points_along_a_direction():
    rows = torch.zeros(3, 4)
    rows[:, 0] = -1.0
    vector = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert decompose(normalised(vector, POINT, "truth"), Planted(rows.T, rows, torch.zeros(3))) == []
    assert decompose(normalised(vector, POINT, "truth"), Planted(rows.T, rows * 0, torch.zeros(3))) == []


def test_another_width_is_refused():
    with pytest.raises(AnachronError, match="8 entries, the decoder of planted 4"):
        decompose(random_direction(8, POINT, 0), identity_like(4))
