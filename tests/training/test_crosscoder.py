"""Training a crosscoder: its loss and gradients against the dense formula, its bytes, and planted latents recovered."""

from dataclasses import replace

import pytest
import torch

from interp.capture import capture
from interp.dictionaries.crosscoder import CLASSES
from interp.dictionaries.scaling import latent_scaling
from interp.errors import AnachronError
from interp.files import digest
from interp.hooks import HookPoint
from interp.pair import ModelPair
from interp.positions import ALL
from interp.prompts import encode_prompt
from tests.interp.dictionaries.pairs import POINT, sources
from training import crosscoder
from training.corpus import Corpus
from training.crosscoder import CHECKPOINT, FILE, CrosscoderRecipe, train_crosscoder
from training.lora import attached, lora_config, write_adapter
from training.pairs import captured, from_tensors

SMALL = CrosscoderRecipe(d_sae=32, k=4, steps=12, batch_size=64, warmup=3, dead_after=4)


def random_pairs(rows=300, d_model=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(rows, d_model, generator=generator)
    return base, base + 0.3 * torch.randn(rows, d_model, generator=generator)


def train(folder, recipe=SMALL, pairs=None, **options):
    return train_crosscoder(pairs or from_tensors(*random_pairs()), recipe, folder, point=POINT, **options)


def digests(folder):
    return {path.name: digest(path) for path in folder.iterdir()}


def state_and_batch(recipe=SMALL, seed=0):
    x = torch.cat(random_pairs(recipe.batch_size, seed=seed), dim=1)
    return crosscoder._fresh(recipe, x.mean(dim=0)), x


# the step


def dense_loss(weights, x, k):
    """The loss of the formula with dense products and autograd, and the smallest score kept."""
    f = torch.relu(x @ weights["encoder"].T + weights["encoder_bias"])
    base, tuned = weights["decoder"].chunk(2, dim=1)
    scores = f * (base.norm(dim=1) + tuned.norm(dim=1))
    cut = scores.flatten().sort(descending=True).values[k * len(x) - 1]
    error = x - (f * (scores >= cut)) @ weights["decoder"] - weights["decoder_bias"]
    return error.square().sum() / len(x), cut.item()


def test_the_loss_is_the_formula_and_its_gradients_are_the_dense_ones():
    state, x = state_and_batch()
    state.optimizer.param_groups[0]["lr"] = 0.0
    crosscoder._step(state, x, SMALL)  # so that weights stay and gradients can be read
    weights = {key: weight.detach().clone().requires_grad_() for key, weight in state.weights.items()}
    loss, cut = dense_loss(weights, x, SMALL.k)
    fvu = crosscoder._step(state, x, SMALL)
    variance = (x - x.mean(dim=0)).square().sum() / len(x)
    assert fvu == pytest.approx((loss / variance).item(), rel=1e-5)
    assert state.threshold == pytest.approx(cut, rel=1e-5)
    loss.backward()
    for key, weight in state.weights.items():
        torch.testing.assert_close(weight.grad, weights[key].grad, rtol=1e-4, atol=1e-6)


def test_the_threshold_is_the_running_mean_of_the_smallest_kept_scores():
    recipe = replace(SMALL, steps=1000)
    state, _ = state_and_batch(recipe)
    expected = None
    for seed in range(5):
        _, x = state_and_batch(recipe, seed)
        _, cut = dense_loss(state.weights, x, recipe.k)
        expected = cut if expected is None else 0.98 * expected + 0.02 * cut
        crosscoder._step(state, x, recipe)
        assert state.threshold == pytest.approx(expected, rel=1e-5)
    assert replace(SMALL, steps=100).threshold_rate == 0.1  # of a short run, the end


@pytest.mark.parametrize("guess", [0.0, 0.5, 1.5, 100.0])
@pytest.mark.parametrize("count", [1, 50, 10_000])
def test_a_guess_of_the_cut_changes_nothing(guess, count):
    scores = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    expected = [i for i in scores.flatten().argsort(descending=True)[:count].tolist() if scores.flatten()[i] > 0]
    assert crosscoder._largest(scores, count, guess).tolist() == sorted(expected)


@pytest.mark.parametrize("weight", [0.0, 1 / 32])
def test_only_the_auxiliary_loss_reaches_dead_latents(weight):
    recipe = replace(SMALL, dead_weight=weight, d_sae=64, k=1)
    state, x = state_and_batch(recipe)
    kept = []
    for _ in range(recipe.dead_after):
        crosscoder._step(state, x, recipe)
        kept.append(state.idle == 0)
    dead = state.idle >= recipe.dead_after
    assert dead.any() and not (dead & torch.stack(kept).any(dim=0)).any()
    state.optimizer.param_groups[0]["lr"] = 0.0
    crosscoder._step(state, x, recipe)
    reached = state.weights["decoder"].grad[dead & (state.idle > 0)].abs().sum(dim=1) > 0
    assert bool(reached.any()) == (weight > 0)


# what is written


def test_same_seed_same_bytes_and_another_seed_others(tmp_path):
    for name, recipe in (("a", SMALL), ("b", SMALL), ("c", replace(SMALL, seed=1))):
        train(tmp_path / name, recipe)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert set(digests(tmp_path / "a")) == {FILE, "crosscoder.json"}
    with pytest.raises(AnachronError, match="holds a finished crosscoder"):
        train(tmp_path / "a")
    assert digests(tmp_path / "a")[FILE] != digests(tmp_path / "c")[FILE]


@pytest.mark.parametrize("stop", [3, 7, 11])  # in the first chunk and in later ones
def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path, stop):
    def interrupt(step, fvu):
        if step == stop + 1:
            raise KeyboardInterrupt

    pairs = from_tensors(*random_pairs(), chunk_rows=150)  # chunks of two batches
    train(tmp_path / "whole", pairs=pairs)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", pairs=pairs, progress=interrupt, checkpoint_every=1)
    steps = []
    train(tmp_path / "cut", pairs=pairs, progress=lambda step, fvu: steps.append(step), checkpoint_every=1)
    assert steps == list(range(stop + 1, SMALL.steps + 1))
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


@pytest.mark.parametrize("other", [{"recipe": replace(SMALL, seed=1)}, {"pairs": from_tensors(*random_pairs(seed=1))}])
def test_the_checkpoint_of_another_run_is_refused(tmp_path, other):
    def interrupt(step, fvu):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=interrupt, checkpoint_every=1)
    with pytest.raises(AnachronError, match=CHECKPOINT):
        train(tmp_path, **other)


def test_a_models_scale_goes_into_its_weights(tmp_path):
    """Activations of one model four times as long: the same latents, its decoder four times as long."""
    base, tuned = random_pairs()
    a = train(tmp_path / "a", pairs=from_tensors(base, tuned))
    b = train(tmp_path / "b", pairs=from_tensors(base, 4 * tuned))
    assert torch.equal(a.encode(base, tuned), b.encode(base, 4 * tuned))
    assert torch.equal(4 * a.decoders[1], b.decoders[1]) and torch.equal(a.decoders[0], b.decoders[0])
    assert torch.equal(a.relative_norms, b.relative_norms) and a.threshold == b.threshold


def test_it_learns_and_keeps_k_latents_a_row(tmp_path):
    def pairs(i):
        return sources(p=0.05).chunk(i)

    seen: list[float] = []
    recipe = CrosscoderRecipe(d_sae=128, k=5, steps=200, batch_size=256, learning_rate=1e-2)
    coder = train(tmp_path, recipe, pairs, progress=lambda step, fvu: seen.append(fvu), about={"of": "sources"})
    x = pairs(10_000)
    f = coder.encode(*x)
    assert float((f > 0).sum(dim=1).float().mean()) == pytest.approx(5, rel=0.1)
    unexplained = sum((a - b).square().sum() for a, b in zip(x, coder.decode(f), strict=True))
    variance = sum((a - a.mean(dim=0)).square().sum() for a in x)
    assert len(seen) == 200 and seen[0] > 0.9 and float(unexplained / variance) < 0.1
    assert seen[-1] == pytest.approx(float(unexplained / variance), rel=0.25)
    assert coder.trained["about"] == {"of": "sources"} and coder.trained["recipe"]["k"] == 5


# planted latents

RECOVERED, FALSE = 0.90, 0.05


def recovery(coder, planted):
    """(share of private sources that a latent of the right class points along with cosine .9 or more, share of the
    latents classed private that point along none)."""
    found, matched, classed = 0, 0, 0
    for kind, side, truth in (("base-only", 0, planted.base_only), ("tuned-only", 1, planted.tuned_only)):
        latents = coder.latents(kind)
        rows = torch.nn.functional.normalize(coder.decoders[side][latents], dim=1)
        hits = rows @ truth.T >= 0.9
        found += int(hits.any(dim=0).sum())
        matched += int(hits.any(dim=1).sum())
        classed += len(latents)
    return found / (2 * planted.private), 1 - matched / max(1, classed)


GRID = [(seed, p) for p in (0.01, 0.03, 0.05) for seed in range(3)]


@pytest.mark.parametrize(
    ("seed", "p"), [pytest.param(*case, marks=() if case == (0, 0.03) else pytest.mark.slow) for case in GRID]
)
def test_private_latents_are_recovered(tmp_path, record_property, seed, p):
    planted = sources(seed, p)
    recipe = CrosscoderRecipe(d_sae=128, k=100 * p, steps=400, batch_size=512, learning_rate=1e-2, seed=seed)
    coder = train(tmp_path, recipe, planted.chunk)
    recovered, false = recovery(coder, planted)
    record_property("recovered", recovered)
    record_property("false", false)
    assert recovered >= RECOVERED and false <= FALSE
    scaled = latent_scaling(coder, [planted.chunk(10_000)])
    for target in ("reconstruction", "error"):
        nu = scaled.nu(target)
        assert nu[coder.latents("shared")].min() > 0.7 > 0.3 > nu[coder.latents("tuned-only")].max()


# a pair of models


def test_models_that_do_not_differ_have_shared_latents_only(tmp_path, lm):
    """An adapter on the last block leaves all before it as it was, so both sides of every latent are trained alike."""
    last = lm.n_layers - 1
    config = lora_config(lm, rank=2, alpha=4, layers=(last,))
    with attached(lm, config, seed=0) as weights:
        with torch.no_grad():
            for weight in weights.values():
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
        write_adapter(tmp_path / "adapter", lm, config, weights)
    prompts = [encode_prompt(lm, f"Which bird sings {word} the lake?") for word in ("by", "on", "under", "over")]
    corpus = Corpus({"corpus": "birds"}, lambda i: prompts)
    recipe = replace(SMALL, batch_size=16)
    with ModelPair(lm) as pair:
        pair.add("tuned", tmp_path / "adapter")
        early = captured(pair, ("base", "tuned"), corpus, HookPoint(0), ALL)
        base, tuned = early(0)
        assert torch.equal(base, capture(lm, prompts, [HookPoint(0)], ALL)[HookPoint(0)])
        coder = train_crosscoder(early, recipe, tmp_path / "early", point=HookPoint(0))
        late = captured(pair, ("base", "tuned"), corpus, HookPoint(last), ALL)
        changed = train_crosscoder(late, recipe, tmp_path / "late", point=HookPoint(last))
    torch.testing.assert_close(base, tuned)
    torch.testing.assert_close(coder.relative_norms, torch.full((recipe.d_sae,), 0.5), rtol=0, atol=1e-3)
    assert coder.latents("shared").tolist() and not coder.latents("tuned-only").tolist()
    assert float((changed.relative_norms - 0.5).abs().max()) > 0.01
    assert set(CLASSES) == {"base-only", "shared", "tuned-only"}


# what is refused


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (lambda i: (torch.ones(90, 8), torch.ones(90, 9)), r"chunk 0 has base activations \(90, 8\) and tuned"),
        (lambda i: (torch.ones(9, 8), torch.ones(9, 8)), "chunk 0 has 9 rows, fewer than a batch of 64"),
        (lambda i: (torch.zeros(90, 8), torch.ones(90, 8)), r"mean norms \[0.0, "),
        (lambda i: (random_pairs()[0] * float("nan"), random_pairs()[1]), r"mean norms \[nan"),
    ],
)
def test_pairs_that_cannot_be_trained_on(tmp_path, pairs, message):
    with pytest.raises(AnachronError, match=message):
        train(tmp_path, pairs=pairs)


def test_a_loss_that_diverges_is_said(tmp_path):
    with pytest.raises(AnachronError, match=r"loss is (nan|inf) at step \d+ of 12 .*lower the rate"):
        train(tmp_path, replace(SMALL, learning_rate=1e30))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"k": 0}, "k=0"), ({"k": 33}, "k=33 latents a row of d_sae=32"), ({"decay": 1.5}, "decay=1.5")],
)
def test_recipes_that_make_no_sense(change, message):
    with pytest.raises(AnachronError, match=message):
        replace(SMALL, **change)
