"""Agreement against scikit-learn, scipy and closed forms."""

from contextlib import nullcontext

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, roc_auc_score

from interp.behavior.agreement import UNPARSEABLE, agreement
from interp.errors import AnachronError


def made(n=200, seed=0, classes=("a", "b", "c"), unparseable=0.1):
    """Truth, and verdicts that are right two times of three."""
    rng = np.random.default_rng(seed)
    truth = [
        str(t) for t in rng.choice(classes, size=n, p=np.arange(1, len(classes) + 1) / sum(range(len(classes) + 1)))
    ]
    other = [str(t) for t in rng.choice(classes, size=n)]
    said = [t if u < 0.5 else o for t, o, u in zip(truth, other, rng.random(n), strict=True)]
    return truth, [None if u < unparseable else s for s, u in zip(said, rng.random(n), strict=True)]


@pytest.mark.parametrize("unparseable", [0.0, 0.1, 1.0])
def test_labels_agree_with_scikit_learn(unparseable):
    truth, verdicts = made(unparseable=unparseable)
    spelt = [UNPARSEABLE if v is None else v for v in verdicts]
    found = agreement(truth, verdicts)
    assert found.unparseable == verdicts.count(None)
    assert found.n == 200 and found.n_scored == 0
    expected = {
        "accuracy": accuracy_score(truth, spelt),
        "kappa": cohen_kappa_score(truth, spelt),
    }
    # scikit-learn warns of a predicted class that no truth has; its figure is the mean recall all the same
    with pytest.warns(UserWarning, match="y_pred") if unparseable else nullcontext():
        expected["balanced_accuracy"] = balanced_accuracy_score(truth, spelt)
    assert {name: e.estimate for name, e in found.measures.items()} == pytest.approx(expected)
    for t in set(truth):
        for v in {*spelt}:
            count = sum((a, b) == (t, v) for a, b in zip(truth, spelt, strict=True))
            assert found.confusion[t].get(v, 0) == count


def test_scores_agree_with_scikit_learn_and_scipy():
    rng = np.random.default_rng(1)
    truth = [str(t) for t in rng.choice(["no", "yes"], size=150)]
    numbers = [2.0 * (t == "yes") + float(rng.integers(3)) for t in truth]
    scores = [float(np.round(20 * x + 15 * rng.standard_normal())) for x in numbers]
    given = [None if i % 10 == 0 else s for i, s in enumerate(scores)]
    kept = [i for i, s in enumerate(given) if s is not None]
    verdicts = [None if s is None else "yes" if s >= 40 else "no" for s in given]
    found = agreement(truth, verdicts, scores=given, positive="yes", numbers=numbers)
    assert found.n_scored == len(kept) == 135
    auroc = roc_auc_score([truth[i] == "yes" for i in kept], [scores[i] for i in kept])
    assert found.measures["auroc"].estimate == pytest.approx(auroc)
    rank = spearmanr([scores[i] for i in kept], [numbers[i] for i in kept]).statistic
    assert found.measures["spearman"].estimate == pytest.approx(rank)
    for measure in found.measures.values():
        assert measure.low < measure.estimate < measure.high
        assert measure.n == 150


def test_closed_forms():
    # 2 x 2 with cells 20 5 / 10 15, the textbook's example of kappa: .7, chance .5, so .4
    truth = ["yes"] * 25 + ["no"] * 25
    verdicts = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    measures = agreement(truth, verdicts).measures
    assert measures["kappa"].estimate == pytest.approx(0.4)
    assert measures["accuracy"].estimate == pytest.approx(0.7)
    assert measures["balanced_accuracy"].estimate == pytest.approx((0.8 + 0.6) / 2)


def test_what_is_undefined_is_left_out():
    one_class = agreement(["a"] * 4, ["a"] * 4, scores=[1.0, 2.0, 3.0, 4.0], positive="a", numbers=[1, 1, 1, 1])
    assert set(one_class.measures) == {"accuracy", "balanced_accuracy"}
    none_scored = agreement(["a", "b"], [None, None], scores=[None, None], positive="a")
    assert none_scored.n_scored == 0 and "auroc" not in none_scored.measures
    assert none_scored.measures["accuracy"].estimate == 0


def test_the_interval_of_accuracy_is_the_binomials():
    truth = ["a"] * 300 + ["b"] * 100
    measure = agreement(truth, ["a"] * 400).measures["accuracy"]
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert measure.low == pytest.approx(0.75 - half, abs=0.006)
    assert measure.high == pytest.approx(0.75 + half, abs=0.006)


def test_answers_of_a_question_are_drawn_together():
    # ten questions, each all right or all wrong: the interval is that of ten values, not of two hundred
    truth = ["a", "b"] * 100
    groups = [str(i // 20) for i in range(200)]
    verdicts = [t if int(g) % 2 else "c" for t, g in zip(truth, groups, strict=True)]
    wide, narrow = (agreement(truth, verdicts, groups=g).measures["accuracy"] for g in (groups, None))
    assert wide.n == 10 and narrow.n == 200
    assert wide.high - wide.low == pytest.approx((narrow.high - narrow.low) * 20**0.5, rel=0.2)


def test_same_seed_same_interval():
    truth, verdicts = made()
    assert agreement(truth, verdicts, seed=3) == agreement(truth, verdicts, seed=3)
    assert agreement(truth, verdicts, seed=3) != agreement(truth, verdicts, seed=4)


def test_errors():
    with pytest.raises(AnachronError, match=r"lengths \[2, 1\]"):
        agreement(["a", "b"], ["a"])
    with pytest.raises(AnachronError, match="2 or more"):
        agreement(["a"], ["a"])
    with pytest.raises(AnachronError, match="no example is 'c'; the labels are a, b"):
        agreement(["a", "b"], ["a", "b"], scores=[1, 2], positive="c")
    with pytest.raises(AnachronError, match="one group"):
        agreement(["a", "b"], ["a", "b"], groups=["q", "q"])
    with pytest.raises(AnachronError, match="unparseable"):
        agreement(["a", UNPARSEABLE], ["a", "b"])
