"""SAEs written in sae-lens's format: sae-lens and our reader give back what was written, and encode alike."""

import json
from dataclasses import replace

import pytest
import torch

from interp.dictionaries.dictionary import Dictionary
from interp.dictionaries.formats import load_dictionary
from interp.dictionaries.sae import registered, write_sae
from interp.dictionaries.weights import Sae
from interp.hooks import HookPoint

D_MODEL, D_SAE = 12, 40


def random_sae(activation, seed=0, **fields):
    g = torch.Generator().manual_seed(seed)
    extra = {
        "relu": {},
        "jumprelu": {"threshold": torch.rand(D_SAE, generator=g)},
        "batchtopk": {"threshold": torch.tensor(0.4)},
        "topk": {"k": 5},
        "gated": {
            "b_gate": torch.randn(D_SAE, generator=g) / 4,
            "r_mag": torch.randn(D_SAE, generator=g) / 4,
        },
    }[activation]
    return Sae(
        name="random",
        point=HookPoint(1, "resid_mid"),
        activation=activation,
        W_enc=torch.randn(D_MODEL, D_SAE, generator=g),
        b_enc=torch.randn(D_SAE, generator=g) / 4,
        W_dec=torch.randn(D_SAE, D_MODEL, generator=g),
        b_dec=torch.randn(D_MODEL, generator=g),
        **{"apply_b_dec_to_input": True, **extra, **fields},
    )


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("activation", ["relu", "jumprelu", "batchtopk", "topk", "gated"])
def test_sae_lens_reads_what_is_written_and_encodes_alike(tmp_path, activation, centred):
    from sae_lens import SAE

    ours = random_sae(activation, apply_b_dec_to_input=centred)
    write_sae(ours, tmp_path, {"model_name": "tiny"})
    theirs = SAE.load_from_disk(tmp_path)
    x = torch.randn(3, 7, D_MODEL, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs.encode(x)
        torch.testing.assert_close(ours.encode(x), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.decode(expected), theirs.decode(expected), rtol=1e-5, atol=1e-5)
    assert torch.equal(ours.encode(x) > 0, expected > 0)
    assert 0 < (expected > 0).float().mean() < 1


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "batchtopk", "topk", "gated"])
def test_reading_gives_back_what_was_written(tmp_path, activation):
    sae = random_sae(activation)
    write_sae(sae, tmp_path, {"model_name": "tiny"})
    read = load_dictionary(tmp_path)
    assert isinstance(read, Dictionary)
    assert read.point == sae.point
    assert (read.d_model, read.d_sae) == (D_MODEL, D_SAE)
    x = torch.randn(50, D_MODEL, generator=torch.Generator().manual_seed(1))
    assert torch.equal(read.encode(x), sae.encode(x))
    assert torch.equal(read.decode(read.encode(x)), sae.decode(sae.encode(x)))


def test_matrices_in_half_precision_are_read_as_single(tmp_path):
    from sae_lens import SAE

    sae = random_sae("jumprelu")
    rounded = replace(sae, W_enc=sae.W_enc.half().float(), W_dec=sae.W_dec.half().float())
    for dtype in (torch.float16, torch.float32):
        write_sae(sae, tmp_path / str(dtype), {"model_name": "tiny"}, dtype)
    half, single = (tmp_path / str(dtype) / "sae_weights.safetensors" for dtype in (torch.float16, torch.float32))
    assert half.stat().st_size < 0.6 * single.stat().st_size
    read = load_dictionary(half.parent)
    x = torch.randn(50, D_MODEL, generator=torch.Generator().manual_seed(1))
    assert read.W_enc.dtype == torch.float32
    assert torch.equal(read.encode(x), rounded.encode(x))
    with torch.no_grad():
        torch.testing.assert_close(SAE.load_from_disk(half.parent).encode(x), rounded.encode(x))


def test_same_sae_same_bytes_and_the_metadata_are_kept(tmp_path):
    for name in ("a", "b"):
        write_sae(random_sae("jumprelu"), tmp_path / name, {"model_name": "tiny", "trained_on": {"documents": 3}})
    files = {path.name for path in (tmp_path / "a").iterdir()}
    assert files == {"cfg.json", "sae_weights.safetensors"}
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    metadata = json.loads((tmp_path / "a" / "cfg.json").read_text())["metadata"]
    assert metadata["hook_name"] == "blocks.1.hook_resid_mid"
    assert metadata["trained_on"] == {"documents": 3}


def test_registered_saes_are_folders(tmp_path):
    assert all((folder / "cfg.json").is_file() for folder in registered().values())
