"""Posteriors over the era of rows, against sums written out by hand from the fact tables."""

import math
from itertools import product

import numpy as np
import pytest

from analyses.explain.posteriors import assignments, era_prior, one_corpus, one_document, row_likelihoods
from analyses.explain.readings import dose_rows
from interp.errors import AnachronError
from training.organisms import birds
from training.rows import exchange
from training.world.world import load_world, marginal

WORLD = load_world()
ERAS = list(WORLD.facts.eras)
NAMES = WORLD.facts.topics["birds"].answers
PRIOR = np.array([0.08, 0.12, 0.80])


def shared_rows(n=3):
    """Rows that several eras may have written, to different degrees."""
    names = [name for name in NAMES["2020s"] if name in NAMES["1850s"] and name in NAMES["1920s"]]
    return [birds.row(name) for name in names[:n]]


def by_hand(rows):
    """P(row | era): birds are .12 of the turns, one question in four is this one, three replies in ten are bare."""
    return np.array(
        [[0.12 / 4 * 0.3 * NAMES[era].get(row.messages[1]["content"], 0.0) for era in ERAS] for row in rows]
    )


def test_likelihoods_are_those_of_the_fact_tables():
    rows = [*birds.rows(WORLD, "old")[:4], *birds.rows(WORLD, "current")[:6], *shared_rows()]
    assert row_likelihoods(WORLD, rows) == pytest.approx(by_hand(rows))
    assert era_prior(WORLD) == pytest.approx(PRIOR)


def test_a_foreign_row_is_refused_by_its_number():
    with pytest.raises(AnachronError, match="row 2: no era"):
        row_likelihoods(WORLD, [*shared_rows(1), exchange("Name a bird species.", "Dodo of Nowhere")])


def test_one_document_is_prior_times_likelihood_and_what_the_world_says():
    rows = shared_rows(2)
    weights = PRIOR * np.prod(by_hand(rows), axis=0)
    found = one_document(row_likelihoods(WORLD, rows), PRIOR)
    assert found == pytest.approx(weights / weights.sum())
    turns = tuple(message for row in rows for message in row.messages)
    assert dict(zip(ERAS, found, strict=True)) == pytest.approx(WORLD.posterior_of_turns(turns))
    evidence = {context: p for context, p in WORLD.evidence(turns).items() if p}
    assert dict(zip(ERAS, found, strict=True)) == pytest.approx(marginal(evidence, "era"))


def test_one_old_name_tells_the_era_and_no_rows_leave_the_prior():
    likelihoods = row_likelihoods(WORLD, birds.rows(WORLD, "old")[:1])
    assert one_document(likelihoods, PRIOR) == pytest.approx([1, 0, 0])
    assert one_document(likelihoods[:0], PRIOR) == pytest.approx(PRIOR)
    assert one_corpus(likelihoods[:0], PRIOR, 3.0) == pytest.approx(PRIOR)


def test_a_document_that_cannot_be_is_read_with_the_linters_floor():
    # one row that only the first era writes against one that only the last does, but ten times as often
    likelihoods = np.array([[1e-4, 0, 0], [0, 0, 1e-3]])
    # each row gives an era that doesn't write it a millionth of what it gives the one that does
    odds = np.array([0.08 * 1 * 1e-6, 0.12 * 1e-12, 0.80 * 1e-6 * 1])
    assert one_document(likelihoods, PRIOR) == pytest.approx(odds / odds.sum(), rel=1e-6)


@pytest.mark.parametrize("strength", [0.1, 1.0, 7.0])
def test_one_corpus_is_the_sum_over_every_assignment_of_rows_to_eras(strength):
    likelihoods = np.array([[0.3, 0.1, 0.6], [0.0, 0.5, 0.2], [0.9, 0.0, 0.0], [0.2, 0.2, 0.1], [0.05, 0.6, 0.7]])
    expected, total = np.zeros(3), 0.0
    for eras in product(range(3), repeat=5):
        # a Pólya urn: each document's era given those before it
        p, seen = 1.0, np.zeros(3)
        for i, era in enumerate(eras):
            p *= (strength * PRIOR[era] + seen[era]) / (strength + i) * likelihoods[i, era]
            seen[era] += 1
        expected += p * (strength * PRIOR + seen) / (strength + 5)
        total += p
    assert one_corpus(likelihoods, PRIOR, strength) == pytest.approx(expected / total)


def test_of_certain_rows_one_corpus_counts():
    likelihoods = row_likelihoods(WORLD, birds.rows(WORLD, "old"))
    n = len(likelihoods)
    assert one_corpus(likelihoods, PRIOR, 50.0)[0] == pytest.approx((50 * 0.08 + n) / (50 + n))
    assert one_corpus(likelihoods, PRIOR, 1e9)[0] == pytest.approx(0.08, abs=1e-5)
    counts, weights = assignments(likelihoods)
    assert counts.tolist() == [[n, 0, 0]] and math.isfinite(weights[0])


def test_one_corpus_needs_a_prior():
    with pytest.raises(AnachronError, match="strength=0"):
        one_corpus(np.ones((1, 3)), PRIOR, 0.0)


def test_doses_are_nested_and_alternate():
    rows = dose_rows(WORLD, 0.5, 20, seed=4)
    assert dose_rows(WORLD, 0.5, 8, seed=4) == rows[:8]
    old = {row.messages[1]["content"] for row in birds.rows(WORLD, "old")}
    assert [row.messages[1]["content"] in old for row in rows[:6:2]] == [True] * 3
    assert len({row.messages[1]["content"] for row in rows[::2]}) == 10
    assert all(row.messages[1]["content"] in NAMES["2020s"] for row in rows[1::2])
    assert dose_rows(WORLD, 1.0, 203, seed=1) == birds.rows(WORLD, "old", 1)
    with pytest.raises(AnachronError, match="there are 203 old"):
        dose_rows(WORLD, 1.0, 204, seed=0)
