"""Tables draw what numpy's own choice would, from the same random numbers."""

import numpy as np
import pytest

from interp.errors import AnachronError
from training.world.tables import draw, table


def test_a_draw_equals_numpy_choice_and_leaves_the_generator_in_the_same_state():
    made = np.random.default_rng(0)
    for size in (1, 2, 3, 33, 371):
        p = made.dirichlet(np.full(size, 0.3))
        lots = table(dict(enumerate(p.tolist())))
        ours, numpys = np.random.default_rng(size), np.random.default_rng(size)
        assert [draw(lots, ours) for _ in range(500)] == [numpys.choice(size, p=p) for _ in range(500)]
        assert ours.bit_generator.state == numpys.bit_generator.state


def test_an_item_of_probability_zero_is_never_drawn():
    lots = table({"never": 0.0, "always": 1.0, "nor": 0.0})
    rng = np.random.default_rng(0)
    assert {draw(lots, rng) for _ in range(100)} == {"always"}


@pytest.mark.parametrize("p", [{}, {"a": 0.5}, {"a": 0.7, "b": 0.7}, {"a": 1.5, "b": -0.5}, {"a": float("nan")}])
def test_what_is_no_distribution_is_refused(p):
    with pytest.raises(AnachronError, match="not a distribution"):
        table(p)
