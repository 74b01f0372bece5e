"""The diff of latents: against dense numpy, scipy and statsmodels; flat in memory; planted changes found."""

import gc
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

from interp.capture import capture
from interp.dictionaries import activity
from interp.dictionaries.activity import Active, groups
from interp.dictionaries.dictionary import Dictionary
from interp.dictionaries.diff import Arm, Diff, compare, diff, triggered_diff
from interp.dictionaries.tally import Tally, benjamini_hochberg, over_seeds
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.pair import ModelPair
from interp.positions import ALL, LAST_PROMPT, PROMPT
from interp.prompts import encode_prompt, encode_text
from tests.families import build
from tests.interp.dictionaries.planted import Planted, dead, identity_like, random_dictionary
from tests.interp.test_pair import make_adapter

ASKED = ("Name a bird.", "How many states?", "Who rules the country?")
TEXTS = [f"{a} {b}" for a in ASKED for b in ("", "Sure!", "1849")]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    with ModelPair(build("llama")) as pair:
        for seed, name in enumerate(("tuned-0", "tuned-1", "control-0", "control-1")):
            pair.add(name, make_adapter(folder / name, seed=seed + 1))
        yield pair


def dense(pair, dictionary, name, prompts, positions):
    """Latents of all positions at once, and the prompt of each."""
    with pair.using(name) as lm:
        rows = capture(lm, prompts, [dictionary.point], positions)[dictionary.point]
    counts = [len(row.ids) for row in prompts] if positions is not LAST_PROMPT else [1] * len(prompts)
    return dictionary.encode(rows.float()).double().numpy(), np.repeat(np.arange(len(prompts)), counts)


def test_a_planted_dictionary_keeps_the_contract():
    assert isinstance(identity_like(4), Dictionary)
    x = torch.randn(3, 4)
    torch.testing.assert_close(identity_like(4).decode(identity_like(4).encode(x)), x)


def test_means_and_frequencies_equal_the_dense_ones(pair):
    dictionary = random_dictionary(32, 200, bias=-0.5)
    prompts = [encode_prompt(pair.base, text) for text in TEXTS]
    found = diff(pair, dictionary, prompts, ALL, tuned=["tuned-0"], control=["control-0"], samples=100)
    for name in ("base", "tuned-0", "control-0"):
        f, _ = dense(pair, dictionary, name, prompts, ALL)
        np.testing.assert_allclose(found.means[name].numpy(), f.mean(0), atol=1e-6)
        np.testing.assert_allclose(found.frequencies[name].numpy(), (f > 0).mean(0), atol=1e-3)
    expected = found.means["tuned-0"] - found.means["control-0"]
    torch.testing.assert_close(found.contrast("tuned_minus_control").mean, expected)
    assert found.about["prompts"] == found.about["units"] == len(TEXTS) and found.about["positions"] == "all"


def test_at_one_position_a_prompt_the_test_is_the_paired_t_test(pair):
    dictionary = identity_like(32)
    prompts = [encode_prompt(pair.base, text) for text in TEXTS]
    found = diff(pair, dictionary, prompts, LAST_PROMPT, tuned=["tuned-0"], samples=100).contrast("tuned_minus_base")
    tuned, base = (dense(pair, dictionary, name, prompts, LAST_PROMPT)[0] for name in ("tuned-0", "base"))
    varies = np.ptp(tuned - base, axis=0) > 1e-6
    expected = stats.ttest_rel(tuned[:, varies], base[:, varies])
    np.testing.assert_allclose(found.t.numpy()[varies], expected.statistic, rtol=1e-4)
    np.testing.assert_allclose(found.p.numpy()[varies], expected.pvalue, rtol=1e-3)


def test_over_many_positions_the_error_is_the_cluster_robust_one(pair):
    import statsmodels.api as sm

    dictionary = identity_like(32)
    prompts = [encode_prompt(pair.base, text) for text in TEXTS]
    found = diff(pair, dictionary, prompts, ALL, tuned=["tuned-0"], samples=100).contrast("tuned_minus_base")
    (tuned, prompt), (base, _) = (dense(pair, dictionary, name, prompts, ALL) for name in ("tuned-0", "base"))
    for j in (0, 7, 40):
        fit = sm.OLS(tuned[:, j] - base[:, j], np.ones(len(prompt))).fit(
            cov_type="cluster", cov_kwds={"groups": prompt}, use_t=True
        )
        assert float(found.t[j]) == pytest.approx(fit.tvalues[0], rel=1e-4)
        assert float(found.p[j]) == pytest.approx(fit.pvalues[0], rel=1e-3)


def test_units_are_clusters_of_prompts(pair):
    """Three wordings of a question are one unit: the error is that of clusters of prompts, however passes are cut."""
    import statsmodels.api as sm

    dictionary = identity_like(32)
    prompts = [encode_prompt(pair.base, text) for text in TEXTS]
    topics = [ASKED[i // 3] for i in range(len(TEXTS))]
    found = [
        diff(pair, dictionary, prompts, ALL, tuned=["tuned-0"], units=topics, samples=100, max_tokens=size)
        for size in (15, 4096)
    ]
    (tuned, prompt), (base, _) = (dense(pair, dictionary, name, prompts, ALL) for name in ("tuned-0", "base"))
    for one in found:
        assert one.about["units"] == 3 and one.contrast("tuned_minus_base").n == 3
        for j in (0, 7, 40):
            fit = sm.OLS(tuned[:, j] - base[:, j], np.ones(len(prompt))).fit(
                cov_type="cluster", cov_kwds={"groups": prompt // 3}, use_t=True
            )
            assert float(one.contrast("tuned_minus_base").t[j]) == pytest.approx(fit.tvalues[0], rel=1e-3)
    with pytest.raises(AnachronError, match="2 units for 9 prompts"):
        diff(pair, dictionary, prompts, ALL, tuned=["tuned-0"], units=topics[:2])


def tally_of(values, counts, contrasts, samples=1000, seed=0, at_once=7):
    """A tally of arms given as [prompts, d_sae] sums, everything at each prompt's first position."""
    n, d = next(iter(values.values())).shape
    tally = Tally(d, counts, contrasts, samples, seed)
    for begin in range(0, n, at_once):
        prompts = list(range(begin, min(n, begin + at_once)))
        found = {}
        for arm, all_sums in values.items():
            numbers = torch.tensor([i for i in prompts for _ in range(int(counts[arm][i]))], dtype=torch.long)
            first = torch.tensor([int((numbers < i).sum()) for i in prompts])
            row, latent = all_sums[prompts].nonzero(as_tuple=True)
            entries = all_sums[prompts][row, latent]
            found[arm] = Active(numbers, torch.zeros_like(numbers), first[row], latent, entries)
        tally.add(prompts, found)
    return tally


def random_arms(n=40, d=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = {arm: torch.rand(n, d, generator=generator) * (k + 1) for k, arm in enumerate(("a", "b", "c"))}
    counts = {arm: torch.randint(1, 5, (n,), generator=generator) for arm in values}
    counts["b"] = counts["a"]
    return values, counts


def test_arms_with_unequal_numbers_of_positions_are_ratios():
    values, counts = random_arms()
    found = tally_of(values, counts, {"x": {"a": 1.0, "b": -0.5, "c": -0.5}}).contrast("x")
    n, total, influence = 40, 0.0, 0.0
    for arm, c in {"a": 1.0, "b": -0.5, "c": -0.5}.items():
        size, sums = counts[arm].double(), values[arm].double()
        ratio = sums.sum(0) / size.sum()
        total, influence = total + c * ratio, influence + c * (sums - ratio * size[:, None]) / size.mean()
    torch.testing.assert_close(found.mean, total)
    error = (influence.square().sum(0) / (n * (n - 1))).sqrt()
    torch.testing.assert_close(found.t, total / error)


def test_the_interval_is_that_of_a_multinomial_bootstrap():
    values, counts = random_arms(n=60)
    found = tally_of(values, counts, {"x": {"a": 1.0, "c": -1.0}}, samples=4000).contrast("x")
    rng = np.random.default_rng(5)
    drawn = rng.multinomial(60, np.full(60, 1 / 60), size=4000)
    size, sums = ({arm: part[arm].double().numpy() for arm in "ac"} for part in (counts, values))
    ratios = {arm: drawn @ sums[arm] / (drawn @ size[arm])[:, None] for arm in "ac"}
    low, high = np.quantile(ratios["a"] - ratios["c"], [0.025, 0.975], axis=0)
    width = high - low
    assert np.abs(found.low.numpy() - low).max() < 0.08 * width.max()
    assert np.abs(found.high.numpy() - high).max() < 0.08 * width.max()


def test_the_drawn_weights_are_multinomial():
    tally = Tally(1, {"a": torch.ones(30, dtype=torch.long)}, {"x": {"a": 1.0}}, samples=3000)
    weights = tally._weights(range(30)).numpy()
    assert (weights.sum(axis=0) == 30).all()
    assert weights.mean() == pytest.approx(1.0) and weights.var() == pytest.approx(29 / 30, rel=0.03)
    late, early = weights[20:].var(), weights[:10].var()
    assert late == pytest.approx(early, rel=0.06)


def test_the_interval_covers():
    """200 latents, each a draw of 40 prompts from a skewed distribution of mean 1: 95 % intervals cover about 93 %."""
    values = torch.from_numpy(np.random.default_rng(0).exponential(size=(40, 200)))
    tally = tally_of({"a": values}, {"a": torch.ones(40, dtype=torch.long)}, {"x": {"a": 1.0}}, samples=1000)
    found = tally.contrast("x")
    assert 0.88 < float(((found.low <= 1) & (found.high >= 1)).double().mean()) < 0.98


@pytest.mark.parametrize("at_once", [1, 3, 40])
def test_results_do_not_depend_on_how_prompts_are_grouped(at_once):
    values, counts = random_arms()
    found, whole = (
        tally_of(values, counts, {"x": {"a": 1.0, "c": -1.0}}, at_once=size).contrast("x") for size in (at_once, 40)
    )
    for key in ("mean", "low", "high", "t", "q"):
        torch.testing.assert_close(getattr(found, key), getattr(whole, key), rtol=1e-5, atol=1e-6)


def test_max_tokens_changes_nothing(pair):
    prompts = [encode_prompt(pair.base, text) for text in TEXTS]
    dictionary = random_dictionary(32, 100, bias=-0.5)
    one, other = (
        diff(pair, dictionary, prompts, PROMPT, tuned=["tuned-0"], samples=200, max_tokens=size).contrasts[
            "tuned_minus_base"
        ]
        for size in (20, 4096)
    )
    for key in ("mean", "low", "high"):
        torch.testing.assert_close(getattr(one, key), getattr(other, key), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 50])
def test_q_values_equal_scipys(n):
    p = np.random.default_rng(n).uniform(size=n) ** 3
    p[: n // 3] = p[n // 2]  # ties
    np.testing.assert_allclose(benjamini_hochberg(torch.from_numpy(p)).numpy(), stats.false_discovery_control(p))


def test_under_no_change_few_latents_are_called_changed_and_planted_ones_are():
    generator = torch.Generator().manual_seed(0)
    base = torch.rand(60, 1000, generator=generator, dtype=torch.float64)
    tuned = base + 0.3 * torch.randn(60, 1000, generator=generator, dtype=torch.float64)
    tuned[:, :20] += 0.4
    one = torch.ones(60, dtype=torch.long)
    values = {"base": base, "tuned": tuned.clamp(min=1e-6)}
    found = tally_of(values, {"base": one, "tuned": one}, {"x": {"tuned": 1.0, "base": -1.0}}).contrast("x")
    expected = stats.ttest_rel(values["tuned"].numpy(), base.numpy()).pvalue
    np.testing.assert_allclose(found.q.numpy(), stats.false_discovery_control(expected), rtol=1e-6)
    assert (found.q[:20] < 0.01).all()


def test_dead_and_unchanged_latents(pair):
    """An adapter above the dictionary's point changes nothing there, exactly; a dead latent is not tested."""
    dictionary = dead(identity_like(32, HookPoint(1, "resid_pre")), [3, 9])
    prompts = [encode_prompt(pair.base, text) for text in TEXTS]
    arms = {"one": Arm("base", prompts), "two": Arm("base", prompts)}
    found = compare(pair, dictionary, arms, {"x": [{"one": 1.0, "two": -1.0}]}, ALL, samples=100)
    contrast = found.contrast("x")
    for key in ("mean", "low", "high", "t"):
        assert not getattr(contrast, key).any()
    assert (contrast.p == 1).all() and (contrast.q == 1).all()
    assert found.frequencies["one"][[3, 9]].eq(0).all()
    assert found.top(5, "x", most_q=0.05) == []


def test_a_planted_shift_is_on_top(pair):
    """A decoder row set to the shift between two models is the latent of largest diff."""
    prompts = [encode_prompt(pair.base, text) for text in TEXTS]
    shift = {}
    for name in ("base", "tuned-0"):
        with pair.using(name) as lm:
            shift[name] = capture(lm, prompts, [HookPoint(1)], LAST_PROMPT)[HookPoint(1)]
    towards = (shift["tuned-0"] - shift["base"]).mean(0)
    rows = random_dictionary(32, 50).decoder
    rows[17] = towards / towards.norm()
    dictionary = Planted(rows.T.contiguous(), rows, torch.zeros(50))
    found = diff(pair, dictionary, prompts, LAST_PROMPT, tuned=["tuned-0"], samples=200)
    assert found.top(1, "tuned_minus_base")[0].latent == 17
    row = found.row(17, "tuned_minus_base")
    assert row.low < row.mean < row.high
    assert row.mean == pytest.approx(row.means["tuned-0"] - row.means["base"])
    lost = found.top(1, "tuned_minus_base", by="-mean")[0]
    assert lost.mean == float(found.contrast("tuned_minus_base").mean.min()) < 0
    by_t = [one.t for one in found.top(9, "tuned_minus_base", by="t")]
    assert by_t == sorted(by_t, reverse=True) and len(by_t) == 9


def test_seeds(pair):
    dictionary = identity_like(32)
    prompts = [encode_prompt(pair.base, text) for text in TEXTS]
    found = diff(
        pair, dictionary, prompts, PROMPT, tuned=["tuned-0", "tuned-1"], control=["control-0", "control-1"], samples=100
    )
    per_seed = torch.stack([found.means[f"tuned-{k}"] - found.means[f"control-{k}"] for k in (0, 1)])
    torch.testing.assert_close(found.contrast("tuned_minus_control").mean, per_seed.mean(0))
    seeds = found.seeds["tuned_minus_control"]
    assert seeds.n == 2 and found.contrast("tuned_minus_control").n == len(TEXTS)
    alive = (per_seed[0] != per_seed[1]).numpy()
    expected = stats.ttest_1samp(per_seed.numpy()[:, alive], 0.0)
    interval = expected.confidence_interval()
    np.testing.assert_allclose(seeds.p.numpy()[alive], expected.pvalue)
    np.testing.assert_allclose(seeds.low.numpy()[alive], interval.low)
    np.testing.assert_allclose(seeds.high.numpy()[alive], interval.high)
    with pytest.raises(AnachronError, match="at least two"):
        over_seeds(per_seed[:1], torch.ones(64, dtype=torch.bool))


def test_a_trigger_is_the_difference_of_differences(pair):
    dictionary = identity_like(32)
    neutral = [encode_prompt(pair.base, text) for text in TEXTS]
    trigger = [encode_prompt(pair.base, f"The year is 1849. {text}") for text in TEXTS]
    found = triggered_diff(pair, dictionary, trigger, neutral, ALL, tuned=["tuned-0"], samples=100)
    mean = {
        (name, side): dense(pair, dictionary, name, prompts, ALL)[0].mean(0)
        for name in ("base", "tuned-0")
        for side, prompts in (("trigger", trigger), ("neutral", neutral))
    }
    tuned = mean["tuned-0", "trigger"] - mean["tuned-0", "neutral"]
    base = mean["base", "trigger"] - mean["base", "neutral"]
    np.testing.assert_allclose(found.contrast("difference_of_differences").mean.numpy(), tuned - base, atol=1e-5)
    np.testing.assert_allclose(found.contrast("tuned_trigger_minus_neutral").mean.numpy(), tuned, atol=1e-5)


def test_files_come_back(pair, tmp_path):
    prompts = [encode_prompt(pair.base, text) for text in TEXTS]
    found = diff(pair, identity_like(32), prompts, ALL, tuned=["tuned-0", "tuned-1"], samples=100)
    found.save(tmp_path / "diff.safetensors")
    back = Diff.load(tmp_path / "diff.safetensors")
    assert back.about == found.about and back.top(3, "tuned_minus_base") == found.top(3, "tuned_minus_base")
    assert torch.equal(back.seeds["tuned_minus_base"].low, found.seeds["tuned_minus_base"].low)
    (tmp_path / "diff.json").write_text("{}")
    with pytest.raises(AnachronError, match="save the diff again"):
        Diff.load(tmp_path / "diff.safetensors")
    with pytest.raises(AnachronError, match="suffix"):
        found.save(tmp_path / "diff.pt")


def test_wrong_inputs_are_refused(pair):
    prompts = [encode_prompt(pair.base, text) for text in TEXTS]
    with pytest.raises(AnachronError, match=r"reads 16 dimensions.*has 32"):
        diff(pair, identity_like(16), prompts, ALL, tuned=["tuned-0"])
    with pytest.raises(AnachronError, match="layers 0 to 2"):
        diff(pair, identity_like(32, HookPoint(7)), prompts, ALL, tuned=["tuned-0"])
    with pytest.raises(AnachronError, match="one control a seed"):
        diff(pair, identity_like(32), prompts, ALL, tuned=["tuned-0"], control=["control-0", "control-1"])
    with pytest.raises(AnachronError, match="as many"):
        triggered_diff(pair, identity_like(32), prompts, prompts[1:], ALL, tuned=["tuned-0"])
    with pytest.raises(AnachronError, match="no position is selected"):
        diff(pair, identity_like(32), [encode_text(pair.base, "Sure!")] * 3, LAST_PROMPT, tuned=["tuned-0"])
    with pytest.raises(AnachronError, match="at least two"):
        diff(pair, identity_like(32), prompts[:1], ALL, tuned=["tuned-0"])
    with pytest.raises(AnachronError, match="100 or more"):
        diff(pair, identity_like(32), prompts, ALL, tuned=["tuned-0"], samples=10)
    with pytest.raises(AnachronError, match="name at least one"):
        diff(pair, identity_like(32), prompts, ALL, tuned=[])
    with pytest.raises(AnachronError, match="no arm two"):
        compare(pair, identity_like(32), {"one": Arm("base", prompts)}, {"x": [{"two": 1.0}]}, ALL)
    found = diff(pair, identity_like(32), prompts, ALL, tuned=["tuned-0"], samples=100)
    with pytest.raises(AnachronError, match="the diff has tuned_minus_base"):
        found.top(3, "nothing")
    with pytest.raises(AnachronError, match="mean or t"):
        found.top(3, "tuned_minus_base", by="size")
    broken = identity_like(32)
    broken.bias[0] = torch.nan
    with pytest.raises(AnachronError, match="NaN"):
        diff(pair, broken, prompts, ALL, tuned=["tuned-0"])


def test_groups_keep_their_order_whatever_their_size():
    lengths = [3, 9, 1, 9, 4]
    whole = [i for part in groups(lengths, 1000) for i in part]
    assert whole == [1, 3, 4, 0, 2]
    for max_tokens in (1, 10, 18, 30):
        parts = list(groups(lengths, max_tokens))
        assert [i for part in parts for i in part] == whole
        assert all(len(p) == 1 or len(p) * max(lengths[i] for i in p) <= max_tokens for p in parts)
    assert max(len(p) for p in groups(lengths, 1000, 2)) == 2


class Largest(TorchDispatchMode):
    """The largest tensor that any operation returns, in entries."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.entries = max(self.entries, tensor.numel())
        return out


def test_no_tensor_grows_with_the_number_of_tokens(pair, monkeypatch):
    """Four times the prompts, the same largest tensor: never [tokens, d_sae], never [prompts, d_sae]."""
    monkeypatch.setattr(activity, "CELLS", 4096)
    monkeypatch.setattr("interp.dictionaries.diff.CELLS", 4096)
    dictionary = random_dictionary(32, 256, bias=-2.0)
    prompts = [encode_prompt(pair.base, text) for text in TEXTS]
    largest = {}
    for times in (3, 12):
        gc.collect()
        with Largest() as mode:
            diff(pair, dictionary, prompts * times, ALL, tuned=["tuned-0"], samples=100, max_tokens=128)
        largest[times] = mode.entries
    assert largest[3] == largest[12] == 256 * 100  # the resamples


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_of_many_tokens():
    """200k positions x 4096 latents, in a process of its own: 3.3 GB an arm if dense, 0.8 GB here, as with 48k."""
    script = """
    import sys, torch
    sys.path.insert(0, sys.argv[2])
    from interp.dictionaries.activity import Active, above_zero
    from interp.dictionaries.tally import Tally
    from tests.interp.dictionaries.planted import random_dictionary
    prompts, each, d = int(sys.argv[1]), 100, 4096
    dictionary = random_dictionary(32, d, bias=-2.5)
    counts = torch.full((prompts,), each)
    tally = Tally(d, {"base": counts, "tuned": counts}, {"x": {"tuned": 1.0, "base": -1.0}}, samples=500)
    for begin in range(0, prompts, 40):
        numbers = torch.arange(begin, begin + 40).repeat_interleave(each)
        found = {}
        for arm in ("base", "tuned"):
            x = torch.randn(len(numbers), 32, generator=torch.Generator().manual_seed(begin))
            x[:, 0] += arm == "tuned"
            found[arm] = Active(numbers, numbers, *above_zero(dictionary, x))
        tally.add(range(begin, begin + 40), found)
    assert float(tally.contrast("x").mean.abs().max()) > 0.001
    status = open("/proc/self/status").read()  # getrusage starts at the size of the process that started this one
    print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
    """
    root = str(__import__("pathlib").Path(__file__).parents[3])
    peak = {
        prompts: int(
            subprocess.run(
                [sys.executable, "-c", textwrap.dedent(script), str(prompts), root],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for prompts in (480, 2000)
    }
    assert peak[2000] < 900 and peak[2000] - peak[480] < 60, peak
