"""An update's factors against its dense matrices, and the moved base against peft's own forward pass."""

import pytest
import torch

from interp.errors import AnachronError
from interp.pair import ModelPair
from interp.updates import added, cosine, inner, moved, orthogonal_noise, read_update
from tests.families import build
from tests.training.chats import ROWS
from training.finetune import Recipe, finetune

IDS = torch.tensor([[1, 5, 9, 30, 77, 8]])


def adapters(lm, tmp_path, **options):
    made = []
    for seed in (0, 1):
        recipe = Recipe(rank=3, alpha=5, steps=4, learning_rate=1e-2, batch_size=3, seed=seed, **options)
        made.append(finetune(lm, ROWS, recipe, tmp_path / str(seed)))
    return made


def flat(matrices):
    return torch.cat([matrices[path].flatten() for path in sorted(matrices)]).double()


def logits(model):
    with torch.no_grad():
        return model.model(IDS).logits


def test_products_are_those_of_the_dense_matrices(lm, tmp_path):
    a, b = (read_update(folder, lm) for folder in adapters(lm, tmp_path))
    dense_a, dense_b = flat(a.matrices()), flat(b.matrices())
    assert a.squared_norm == pytest.approx(float(dense_a @ dense_a), rel=1e-5)
    assert sum(inner(a, b).values()) == pytest.approx(float(dense_a @ dense_b), rel=1e-3, abs=1e-7)
    assert cosine(a, b) == pytest.approx(float(dense_a @ dense_b / dense_a.norm() / dense_b.norm()), abs=1e-5)
    assert cosine(a, a) == pytest.approx(1.0)


def test_a_map_that_one_of_two_changes_counts_as_zero_in_the_other(lm, tmp_path):
    (first, _), (second, _) = (
        adapters(lm, tmp_path / name, layers=layers) for name, layers in (("one", (0,)), ("two", (1,)))
    )
    a, b = read_update(first, lm), read_update(second, lm)
    assert inner(a, b) == {} and cosine(a, b) == 0.0


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("rslora", [False, True])
def test_the_moved_base_answers_as_the_adapter(tmp_path, family, rslora):
    lm = build(family)
    before = logits(lm)
    folder = adapters(lm, tmp_path, rslora=rslora)[0]
    with moved(lm, read_update(folder, lm).matrices()) as tuned:
        found = logits(tuned)
    assert torch.equal(logits(lm), before), "given back bit by bit"
    with ModelPair(lm) as pair:
        pair.add("tuned", folder)
        with pair.using("tuned") as tuned:
            expected = logits(tuned)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert not torch.allclose(found, before, atol=1e-3)


def test_it_is_given_back_after_an_exception(lm, tmp_path):
    before = logits(lm)
    update = read_update(adapters(lm, tmp_path)[0], lm)
    with pytest.raises(RuntimeError), moved(lm, update.matrices(2.0)):
        raise RuntimeError
    assert torch.equal(logits(lm), before)


def test_noise_is_orthogonal_and_as_long_as_asked(lm, tmp_path):
    update = read_update(adapters(lm, tmp_path)[0], lm)
    own, noise = flat(update.matrices()), flat(orthogonal_noise(update, 0.7, seed=3))
    assert float(noise.norm()) == pytest.approx(0.7 * update.norm, rel=1e-5)
    assert abs(float(noise @ own)) < 1e-5 * float(noise.norm() * own.norm())
    assert torch.equal(noise, flat(orthogonal_noise(update, 0.7, seed=3)))
    other = flat(orthogonal_noise(update, 0.7, seed=4))
    assert abs(float(noise @ other / noise.norm() / other.norm())) < 0.1
    together = flat(added(update.matrices(), orthogonal_noise(update, 0.7, seed=3)))
    assert float(together.norm()) == pytest.approx((1 + 0.7**2) ** 0.5 * update.norm, rel=1e-5)


def test_what_does_not_fit_is_told(lm, tmp_path):
    update = read_update(adapters(lm, tmp_path)[0], lm)
    path = next(iter(update.up))
    with pytest.raises(AnachronError, match="no linear map 'elsewhere'"), moved(lm, {"elsewhere": torch.zeros(2, 2)}):
        pass
    with pytest.raises(AnachronError, match="of another model"), moved(lm, {path: torch.zeros(2, 2)}):
        pass
    with ModelPair(lm) as pair:
        pair.add("tuned", tmp_path / "0")
        with pytest.raises(AnachronError, match="give the plain base model"), moved(lm, update.matrices()):
            pass
