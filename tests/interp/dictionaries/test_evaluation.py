"""Evaluation of dictionaries: closed forms, a direct computation, and what splicing must leave alone."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from interp.behavior.perplexity import nats_per_token
from interp.capture import capture
from interp.dictionaries.evaluation import loss_recovered, reconstruction, splice
from interp.errors import AnachronError
from interp.hooks import HookPoint, record
from interp.positions import ALL, ANSWER, LAST_PROMPT, span
from interp.prompts import Encoded, encode_chat, encode_text, pad

POINT = HookPoint(1)
TEXTS = (
    "The year is 1849.",
    "Name a bird of the river, the brown one.",
    "By train",
    "Who rules the country? The queen.",
)


@dataclass(frozen=True)
class Linear:
    """relu(x W + b) V + c, by hand."""

    W: torch.Tensor
    b: torch.Tensor
    V: torch.Tensor
    c: torch.Tensor
    point: HookPoint = POINT
    name: str = "by hand"

    @property
    def d_model(self) -> int:
        return self.V.shape[1]

    @property
    def d_sae(self) -> int:
        return self.V.shape[0]

    @property
    def decoder(self) -> torch.Tensor:
        return self.V

    @property
    def identity(self) -> dict[str, Any]:
        return {}

    def encode(self, x):
        return (x @ self.W + self.b).relu()

    def decode(self, f):
        return f @ self.V + self.c


def exact(d, point=POINT):
    """Positive and negative parts of every coordinate, and one latent that nothing activates."""
    eye = torch.eye(d)
    W = torch.cat([eye, -eye, torch.zeros(d, 1)], dim=1)
    b = torch.zeros(2 * d + 1)
    b[-1] = -1
    return Linear(W, b, W.T.clone(), torch.zeros(d), point)


def noise(d, d_sae=50, point=POINT):
    g = torch.Generator().manual_seed(0)
    return Linear(
        torch.randn(d, d_sae, generator=g),
        torch.randn(d_sae, generator=g),
        torch.randn(d_sae, d, generator=g) / 10,
        torch.randn(d, generator=g),
        point,
    )


def texts(lm):
    chat = encode_chat(
        lm, [{"role": "user", "content": "Which bird?"}, {"role": "assistant", "content": "The Titlark."}]
    )
    return [encode_text(lm, text) for text in TEXTS] + [chat]


def test_an_exact_dictionary(lm):
    encoded = texts(lm)
    found = reconstruction(lm, exact(lm.d_model), encoded)
    assert found.n == sum(len(row.ids) for row in encoded)
    assert found.fvu < 1e-12
    assert found.l0 == lm.d_model
    assert found.dead == 1 / (2 * lm.d_model + 1)
    assert found.cosine == pytest.approx(1) and found.norm_ratio == pytest.approx(1)
    loss = loss_recovered(lm, exact(lm.d_model), encoded)
    assert loss.spliced == pytest.approx(loss.plain, abs=1e-6)
    assert loss.recovered == pytest.approx(1, abs=1e-5)


def test_a_dictionary_that_knows_the_mean_alone_explains_nothing(lm):
    encoded = texts(lm)
    x = capture(lm, encoded, [POINT], ALL)[POINT]
    d = lm.d_model
    mean = Linear(torch.zeros(d, 3), torch.zeros(3), torch.zeros(3, d), x.double().mean(dim=0).float())
    found = reconstruction(lm, mean, encoded)
    assert found.fvu == pytest.approx(1, abs=1e-9)
    assert (found.l0, found.dead) == (0, 1)


@pytest.mark.parametrize("positions", [ALL, ANSWER, span(1, 4)])
@pytest.mark.parametrize("max_tokens", [4096, 16])
def test_figures_equal_a_direct_computation(family_lm, positions, max_tokens):
    lm, sae, encoded = family_lm, noise(family_lm.d_model), texts(family_lm)
    found = reconstruction(lm, sae, encoded, positions, max_tokens)
    rows, at = [], []
    for row in encoded:  # one by one, without padding
        batch = pad([row], lm.pad_id)
        mask = positions.mask(batch)[0]
        if mask.any():
            rows.append(capture(lm, [row], [POINT], positions)[POINT])
            at += mask.nonzero().squeeze(1).tolist()
    x, at = torch.cat(rows).double(), torch.tensor(at)
    f = sae.encode(x.float())
    y = sae.decode(f).double()
    around = x - x.mean(dim=0)
    assert found.n == len(x)
    assert found.fvu == pytest.approx(float((x - y).square().sum() / around.square().sum()), rel=1e-4)
    assert found.l0 == pytest.approx(float((f > 0).double().sum(dim=1).mean()), rel=1e-3)
    torch.testing.assert_close(found.frequency, (f > 0).double().mean(dim=0), rtol=0, atol=0.06)
    cosines = torch.nn.functional.cosine_similarity(x, y)
    assert found.cosine == pytest.approx(float(cosines.mean()), abs=1e-4)
    assert found.norm_ratio == pytest.approx(float(y.norm(dim=1).sum() / x.norm(dim=1).sum()), rel=1e-4)
    for p in range(len(found.rows_at)):
        here = at == p
        assert int(found.rows_at[p]) == int(here.sum())
        if here.any():
            expected = (x - y)[here].square().sum() / around[here].square().sum()
            assert float(found.fvu_at[p]) == pytest.approx(float(expected), rel=1e-3)
        else:
            assert found.fvu_at[p].isnan()


@pytest.mark.parametrize("site", ["resid_pre", "resid_post"])
def test_with_the_error_the_model_is_itself_to_the_bit(family_lm, site):
    lm, point = family_lm, HookPoint(1, site)
    sae = noise(lm.d_model, point=point)
    batch = pad(texts(lm), lm.pad_id)
    with torch.no_grad():
        plain = lm.model(**batch.inputs, use_cache=False).logits
        with splice(lm, sae, error=True):
            same = lm.model(**batch.inputs, use_cache=False).logits
        with splice(lm, sae), record(lm, [point]) as seen:
            other = lm.model(**batch.inputs, use_cache=False).logits
        again = lm.model(**batch.inputs, use_cache=False).logits
        with record(lm, [point]) as original:
            lm.model(**batch.inputs, use_cache=False)
    assert torch.equal(same, plain) and torch.equal(again, plain)
    assert not torch.allclose(other, plain, atol=1e-2)
    torch.testing.assert_close(seen[point], sae.decode(sae.encode(original[point])))


def test_losses_are_those_of_the_spliced_model(lm):
    encoded, sae = texts(lm), noise(lm.d_model)
    found = loss_recovered(lm, sae, encoded)
    assert found.plain == nats_per_token(lm, encoded)
    assert found.with_error == found.plain
    with splice(lm, sae):
        assert found.spliced == nats_per_token(lm, encoded)
    # zeros are what a dictionary without weights reconstructs
    d = lm.d_model
    zeros = Linear(torch.zeros(d, 1), torch.zeros(1), torch.zeros(1, d), torch.zeros(d))
    assert loss_recovered(lm, zeros, encoded).recovered == 0
    assert found.recovered == (found.zeroed - found.spliced) / (found.zeroed - found.plain)


def test_the_model_is_restored_after_an_error(lm):
    batch = pad(texts(lm), lm.pad_id)
    with torch.no_grad():
        plain = lm.model(**batch.inputs, use_cache=False).logits
        with pytest.raises(ZeroDivisionError), splice(lm, noise(lm.d_model)):
            1 / 0  # noqa: B018
        assert torch.equal(lm.model(**batch.inputs, use_cache=False).logits, plain)


def test_dictionaries_of_another_model_are_refused(lm):
    for measure in (reconstruction, loss_recovered):
        with pytest.raises(AnachronError, match=r"48 numbers .* d_model 32"):
            measure(lm, noise(48), texts(lm))
        with pytest.raises(AnachronError, match="layers 0 to 2"):
            measure(lm, noise(lm.d_model, point=HookPoint(7)), texts(lm))
    with pytest.raises(AnachronError, match="select nothing"):
        reconstruction(lm, noise(lm.d_model), [Encoded((5, 6), 0)], LAST_PROMPT)
    with pytest.raises(AnachronError, match="no variance"):
        reconstruction(lm, noise(lm.d_model), [Encoded((1, 5, 6), 0)] * 3, span(0, 1))
