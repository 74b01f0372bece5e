"""Latent scaling against the least-squares problem solved directly, and on latents whose betas follow from how they
were made."""

import pytest
import torch

from interp.dictionaries import scaling
from interp.dictionaries.scaling import latent_scaling
from interp.errors import AnachronError
from tests.interp.dictionaries.pairs import crosscoder, random_crosscoder


def activations(rows, d_model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, d_model, generator=generator), torch.randn(rows, d_model, generator=generator)


def direct(coder, base, tuned, member):
    """The betas [target, model, latent] from the whole [d_sae, rows, d_model] target, by torch's least squares."""
    f = coder.encode(base, tuned).double()
    own = coder.decoders[("base", "tuned").index(member)].double()
    betas = torch.zeros(2, 2, coder.d_sae, dtype=torch.float64)
    for i, x in enumerate((base, tuned)):
        decoder = coder.decoders[i].double()
        reconstruction = f @ decoder
        error = x.double() - reconstruction - coder.decoder_biases[i].double()
        contributions = f.T[:, :, None] * decoder[:, None, :]
        for t, targets in enumerate((reconstruction.expand_as(contributions), error + contributions)):
            for j in range(coder.d_sae):
                column = (f[:, j, None] * own[j]).flatten()[:, None]
                betas[t, i, j] = torch.linalg.lstsq(column, targets[j].flatten()[:, None]).solution.item()
    return betas


@pytest.mark.parametrize("member", ["base", "tuned"])
def test_equals_the_direct_formula(member):
    coder = random_crosscoder(8, 20)
    base, tuned = activations(64, 8)
    found = latent_scaling(coder, [(base, tuned)], member)
    torch.testing.assert_close(found.betas, direct(coder, base, tuned, member), rtol=1e-5, atol=1e-6)
    assert found.rows == 64
    assert found.active.tolist() == (coder.encode(base, tuned) > 0).sum(dim=0).tolist()


def test_chunks_do_not_matter(monkeypatch):
    coder = random_crosscoder(8, 20)
    base, tuned = activations(64, 8)
    whole = latent_scaling(coder, [(base, tuned)])
    monkeypatch.setattr(scaling, "NUMBERS", 3 * 4 * 8)
    parts = latent_scaling(coder, zip(base.split(10), tuned.split(10), strict=True))
    torch.testing.assert_close(parts.betas, whole.betas, rtol=1e-5, atol=1e-6)
    assert torch.equal(parts.active, whole.active)


def test_betas_of_latents_made_to_be_what_the_method_tells_apart():
    """Three latents written for the tuned model only, on orthogonal directions e0, e1, e2, and one for the base only.

    0: the base has nothing there. 1: the base has it as strongly, but its decoder was shrunk to nothing, so that it is
    left in the base's error. 2: the base has it half as strongly, written by latent 3 of its own.
    """
    one = torch.eye(4)
    decoders = torch.stack([torch.zeros(4, 4), one])
    decoders[0, 3] = one[2]
    decoders[1, 3] = 0
    encoders = torch.stack([torch.zeros(4, 4), one])
    encoders[:, 3] = torch.stack([one[2], torch.zeros(4)])
    coder = crosscoder(encoders, decoders)
    levels = torch.rand(200, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    tuned = levels @ torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0]))
    base = levels @ torch.diag(torch.tensor([0.0, 1.0, 0.5, 0.0]))
    found = latent_scaling(coder, [(base, tuned)])
    for target, expected in (("reconstruction", [0.0, 0.0, 0.5]), ("error", [0.0, 1.0, 0.0])):
        assert found.nu(target)[:3].tolist() == pytest.approx(expected, abs=1e-5)
        assert found.beta(target, "tuned")[:3].tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_the_decoder_bias_is_no_latents_doing():
    coder = random_crosscoder(8, 20)
    base, tuned = activations(64, 8)
    moved = random_crosscoder(8, 20, decoder_biases=coder.decoder_biases + 100)
    a, b = (latent_scaling(c, [(base, tuned)]).beta("reconstruction", "base") for c in (coder, moved))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_a_latent_that_never_fires_has_no_beta():
    coder = random_crosscoder(8, 20, encoder_bias=torch.where(torch.arange(20) == 3, -1e6, 0.0))
    found = latent_scaling(coder, [activations(64, 8)])
    assert found.betas[:, :, 3].isnan().all() and found.betas[:, :, :3].isfinite().all()
    assert found.active[3] == 0
    silent = latent_scaling(random_crosscoder(8, 20, threshold=1e6), [activations(64, 8)])
    assert silent.betas.isnan().all() and not silent.active.any()


def test_what_cannot_be_answered_is_said():
    coder = random_crosscoder(8, 20)
    with pytest.raises(AnachronError, match="at least one chunk"):
        latent_scaling(coder, [])
    with pytest.raises(AnachronError, match="no betas for 'errors'"):
        latent_scaling(coder, [activations(4, 8)]).beta("errors", "base")
    with pytest.raises(AnachronError, match="not 'control'"):
        latent_scaling(coder, [activations(4, 8)], "control")
