"""Selectors against a per-token spelling-out, under both padding sides."""

import pytest

from interp.errors import AnachronError
from interp.positions import ALL, ANSWER, FROM_LAST_PROMPT, LAST_PROMPT, PROMPT, Positions, by_name, span
from interp.prompts import Encoded, pad

# (row length, prompt length): with answer, without answer, a plain document, one token
ROWS = ((6, 4), (5, 5), (3, 0), (1, 1), (7, 1))

EXPECTED = {
    "all": lambda i, n, p: True,
    "prompt": lambda i, n, p: i < p,
    "last_prompt": lambda i, n, p: i == p - 1,
    "from_last_prompt": lambda i, n, p: i >= p - 1,
    "answer": lambda i, n, p: i >= p,
    "span(1,3)": lambda i, n, p: 1 <= i < 3,
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_masks(name, side):
    batch = pad([Encoded(tuple(range(10, 10 + n)), p) for n, p in ROWS], 0, side)
    width = max(n for n, _ in ROWS)
    expected = []
    for n, p in ROWS:
        row = [EXPECTED[name](i, n, p) for i in range(n)]
        padding = [False] * (width - n)
        expected.append(padding + row if side == "left" else row + padding)
    assert by_name(name).mask(batch).tolist() == expected


def test_which_selectors_follow_generated_tokens():
    assert [p.name for p in (ALL, PROMPT, LAST_PROMPT, FROM_LAST_PROMPT, ANSWER, span(0, 2)) if p.generated] == [
        "all",
        "from_last_prompt",
        "answer",
    ]


def test_names_round_trip():
    for positions in (ALL, PROMPT, LAST_PROMPT, FROM_LAST_PROMPT, ANSWER, span(2, 5)):
        assert by_name(positions.name) == positions
    assert span(2, 5) == by_name("span(2, 5)")


def test_unknown_names_and_empty_spans_are_refused():
    with pytest.raises(AnachronError, match="use one of all, prompt, last_prompt, from_last_prompt, answer"):
        by_name("last")
    for start, stop in ((3, 3), (-1, 2), (4, 2)):
        with pytest.raises(AnachronError, match="selects nothing"):
            span(start, stop)
    batch = pad([Encoded((1, 2), 1)], 0)
    with pytest.raises(AnachronError, match="unknown anchor 'middle'"):
        Positions("x", ("middle", 0), ("end", 0), generated=False).mask(batch)
