"""An SAE without its dead latents computes what the whole one computes."""

import pytest
import torch

from interp.dictionaries.prune import pruned
from interp.dictionaries.weights import Sae
from interp.errors import AnachronError
from interp.hooks import HookPoint


def sae(activation: str, **more) -> Sae:
    """Six latents on four dimensions, of which 1 and 4 have a bias that nothing reaches."""
    g = torch.Generator().manual_seed(0)
    bias = torch.tensor([0.0, -1e4, 0.1, 0.2, -1e4, 0.0])
    encoder, decoder = torch.randn(4, 6, generator=g), torch.randn(6, 4, generator=g)
    return Sae("six", HookPoint(1), activation, encoder, bias, decoder, torch.ones(4), **more)


@pytest.mark.parametrize(
    ("activation", "more"),
    [
        ("relu", {}),
        ("jumprelu", {"threshold": torch.linspace(0.1, 0.6, 6)}),
        ("batchtopk", {"threshold": torch.tensor(0.3)}),
        ("topk", {"k": 2}),
        ("gated", {"b_gate": torch.linspace(-0.2, 0.3, 6), "r_mag": torch.linspace(0, 0.5, 6)}),
    ],
)
def test_the_rest_is_unchanged(activation, more):
    whole = sae(activation, **more)
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    f = whole.encode(x)
    keep = torch.tensor([True, False, True, True, False, True])
    assert not f[:, ~keep].any()
    part = pruned(whole, keep)
    assert part.d_sae == 4
    assert torch.equal(part.encode(x), f[:, keep])
    torch.testing.assert_close(part.decode(part.encode(x)), whole.decode(f))


def test_bad_masks():
    with pytest.raises(AnachronError, match="a mask of 3 for 6"):
        pruned(sae("relu"), torch.ones(3, dtype=torch.bool))
    with pytest.raises(AnachronError, match="1 latents are left and 2 are needed"):
        pruned(sae("topk", k=2), torch.arange(6) == 0)
    with pytest.raises(AnachronError, match="0 latents are left"):
        pruned(sae("relu"), torch.zeros(6, dtype=torch.bool))
