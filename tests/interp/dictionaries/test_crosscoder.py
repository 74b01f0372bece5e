"""The crosscoder as an object: what it computes, entry by entry, its classes of latents, its members, its files."""

import json
from math import sqrt

import pytest
import torch

from interp.dictionaries.crosscoder import CLASSES, load_crosscoder
from interp.dictionaries.dictionary import Dictionary
from interp.dictionaries.formats import load_dictionary
from interp.dictionaries.sae import write_sae
from interp.errors import AnachronError
from interp.files import digest
from tests.interp.dictionaries.pairs import crosscoder, random_crosscoder


def activations(d_model, rows=7, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, d_model, generator=generator), torch.randn(rows, d_model, generator=generator)


def test_encode_is_the_formula_entry_by_entry():
    d_model, d_sae = 4, 6
    coder = random_crosscoder(d_model, d_sae)
    base, tuned = activations(d_model)
    found = coder.encode(base, tuned)
    kept = 0
    for n in range(len(base)):
        for j in range(d_sae):
            f = float(coder.encoder_bias[j])
            for i in range(d_model):
                f += float(base[n, i] * coder.encoders[0, j, i] + tuned[n, i] * coder.encoders[1, j, i])
            size = sum(
                sqrt(sum(float(coder.decoders[m, j, i]) ** 2 for i in range(d_model))) * sqrt(d_model) / norm
                for m, norm in enumerate((3.0, 5.0))
            )
            expected = f if f > 0 and f * size > 1.5 else 0.0
            kept += expected > 0
            assert float(found[n, j]) == pytest.approx(expected, abs=1e-5)
    assert 0 < kept < (base @ coder.encoders[0].T + tuned @ coder.encoders[1].T + coder.encoder_bias > 0).sum()


def test_decode_is_the_formula_entry_by_entry():
    coder = random_crosscoder(3, 5)
    f = coder.encode(*activations(3))
    for m, found in enumerate(coder.decode(f)):
        for n in range(len(f)):
            for i in range(3):
                expected = sum(float(f[n, j] * coder.decoders[m, j, i]) for j in range(5))
                assert float(found[n, i]) == pytest.approx(expected + float(coder.decoder_biases[m, i]), abs=1e-5)


def test_rows_may_have_any_leading_axes_and_half_precision():
    coder = random_crosscoder(4, 6)
    base, tuned = activations(4, rows=6)
    flat = coder.encode(base, tuned)
    torch.testing.assert_close(coder.encode(base.view(2, 3, 4), tuned.view(2, 3, 4)), flat.view(2, 3, 6))
    half = coder.encode(base.bfloat16(), tuned.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, coder.encode(base.bfloat16().float(), tuned.bfloat16().float()))


def with_norms(base, tuned, **fields):
    """A crosscoder of one dimension whose decoder rows have these norms."""
    decoders = torch.tensor([base, tuned])[:, :, None]
    return crosscoder(torch.zeros_like(decoders), decoders, **fields)


def test_relative_norms_and_classes():
    base, tuned = [1.0, 1.0, 0.0, -0.5, 0.19, 0.7, 0.0], [1.0, 0.0, 1.0, 1.0, 1.0, 0.8, 0.0]
    coder = with_norms(base, tuned)
    torch.testing.assert_close(coder.relative_norms, torch.tensor([0.5, 0.0, 1.0, 0.75, 0.905, 0.5625, 0.5]))
    assert coder.latents("base-only").tolist() == [1]
    assert coder.latents("tuned-only").tolist() == [4, 2]  # by falling norm
    assert coder.latents("shared").tolist() == [0, 5, 6]
    assert coder.latents("tuned-only", dict(CLASSES) | {"tuned-only": (0.7, 1.0)}).tolist() == [3, 4, 2]
    with pytest.raises(AnachronError, match=r"no class 'new'.*base-only, shared, tuned-only"):
        coder.latents("new")


def test_norms_are_taken_in_units_of_each_models_activations():
    """A tuned model whose activations are twice as long writes the same latent twice as long."""
    coder = with_norms([1.0, 2.0], [2.0, 4.0], mean_norms=(3.0, 6.0))
    assert coder.relative_norms.tolist() == [0.5, 0.5]


def test_dead_latents_belong_to_no_class():
    coder = with_norms([0.0, 0.0], [1.0, 1.0], alive=torch.tensor([False, True]))
    assert coder.latents("tuned-only").tolist() == [1]


@pytest.mark.parametrize(("name", "side"), [("base", 0), ("tuned", 1)])
def test_a_member_is_an_sae(tmp_path, name, side):
    coder = random_crosscoder(4, 6)
    member = coder.member(name)
    assert isinstance(member, Dictionary)
    assert (member.name, member.point, member.d_model, member.d_sae) == (f"planted:{name}", coder.point, 4, 6)
    assert torch.equal(member.decoder, coder.decoders[side])
    x, _ = activations(4, rows=50)
    f = member.encode(x)
    torch.testing.assert_close(f, coder.encode(x, x))
    torch.testing.assert_close(member.decode(f), coder.decode(f)[side])
    assert json.loads(json.dumps(member.identity))["member"] == name
    assert member.identity["digest"] == coder.sha256 != random_crosscoder(4, 6, seed=1).sha256
    read = load_dictionary(write_sae(member, tmp_path, {}))
    torch.testing.assert_close(read.encode(x), f)
    assert torch.equal(read.decoder, member.decoder)


def test_there_are_two_members():
    with pytest.raises(AnachronError, match="base and tuned, not 'control'"):
        random_crosscoder(4, 6).member("control")


def test_activations_of_another_width_are_refused():
    with pytest.raises(AnachronError, match="encodes vectors of 4, the base activations have 5"):
        random_crosscoder(4, 6).encode(torch.zeros(2, 5), torch.zeros(2, 5))


def test_saved_and_loaded(tmp_path):
    coder = random_crosscoder(4, 6, trained={"recipe": {"k": 3}}, alive=torch.arange(6) != 2)
    coder.save(tmp_path / "a")
    found = load_crosscoder(tmp_path / "a.safetensors")
    x = activations(4)
    assert torch.equal(found.encode(*x), coder.encode(*x))
    assert torch.equal(found.alive, coder.alive) and found.trained == coder.trained and found.point == coder.point
    assert found.sha256 == coder.sha256
    found.save(tmp_path / "b.safetensors")
    for suffix in (".safetensors", ".json"):
        assert digest((tmp_path / "a").with_suffix(suffix)) == digest((tmp_path / "b").with_suffix(suffix))


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    random_crosscoder(4, 6).save(tmp_path / "a")
    random_crosscoder(4, 6, seed=1).save(tmp_path / "b")
    (tmp_path / "b.safetensors").replace(tmp_path / "a.safetensors")
    with pytest.raises(AnachronError, match=r"a\.safetensors isn't the file that .*a\.json describes"):
        load_crosscoder(tmp_path / "a")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "a.json").unlink(), r"a\.json: no such file"),
        (lambda folder: (folder / "a.json").write_text('{"architecture": "sae"}'), r"doesn't describe a crosscoder"),
        (lambda folder: (folder / "a.safetensors").unlink(), r"a\.safetensors: no such file"),
        (lambda folder: (folder / "a.safetensors").write_bytes(b"\0" * 20), "not a whole safetensors file"),
    ],
)
def test_damaged_files_are_named(tmp_path, damage, message):
    random_crosscoder(4, 6).save(tmp_path / "a")
    damage(tmp_path)
    with pytest.raises(AnachronError, match=message):
        load_crosscoder(tmp_path / "a")
