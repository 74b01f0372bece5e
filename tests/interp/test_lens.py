"""Readings of directions with hand-set weights, against runs that aren't patched, and on an adapter of known shift."""

from dataclasses import replace

import pytest
import torch

from interp.dictionaries.readout import readout
from interp.errors import AnachronError
from interp.hooks import HookPoint, record
from interp.lens import IDENTITY, activation_difference, logit_lens, patchscope
from interp.pair import ModelPair
from interp.prompts import Encoded, encode_prompt, encode_text, pad
from tests.families import build
from tests.interp.dictionaries.planted import identity_like


def test_a_row_of_the_unembedding_promotes_its_token_and_its_negative_suppresses_it(family_lm):
    lm = family_lm
    weight = lm.anatomy.final_norm.weight
    gain = 1 + weight if "Gemma" in type(lm.anatomy.final_norm).__name__ else weight
    rows = lm.anatomy.unembed.weight.detach()
    if isinstance(lm.anatomy.final_norm, torch.nn.LayerNorm):
        rows = rows - rows.mean(1, keepdim=True)
    best = int(rows.norm(dim=1).argmax())  # no other row can be nearer to it than itself
    vector = rows[best] / gain
    up, down = logit_lens(lm, torch.stack([vector, -vector]), n=5)
    if isinstance(lm.anatomy.final_norm, torch.nn.LayerNorm):
        assert best in [token.id for token in up.promoted]  # centring a vector after the gain moves it a little
    else:
        assert up.promoted[0].id == best and down.suppressed[0].id == best
    assert [t.id for t in up.suppressed] == [t.id for t in down.promoted]


def test_the_lens_of_a_decoder_row_is_the_latents_readout(lm):
    dictionary = identity_like(32)
    [latent], [reading] = readout(lm, dictionary, [3], n=6), logit_lens(lm, dictionary.decoder[3][None], n=6)
    assert (latent.promoted, latent.suppressed) == (reading.promoted, reading.suppressed)


def test_a_patchscope_of_a_tokens_own_activation_is_the_plain_run(family_lm):
    """Put back in its place at its own norm, an activation changes nothing; the one of another prompt gives that
    prompt's next token where nothing before is looked at (the last layer)."""
    lm, last = family_lm, HookPoint(family_lm.n_layers - 1)
    prompt = encode_text(lm, IDENTITY)
    other = encode_prompt(lm, "Who rules the country?")
    with torch.no_grad():
        for row, point in ((prompt, HookPoint(1)), (other, last)):
            with record(lm, [point]) as seen:
                logits = lm.model(**pad([row], lm.pad_id).inputs).logits[0, -1]
            own = seen[point][0, -1:]
            found = patchscope(lm, own, point, [float(own.norm())])
            torch.testing.assert_close(found[0, 0], logits.softmax(-1), rtol=1e-3, atol=1e-6)


def test_scales_and_placeholders_are_told_apart(lm):
    prompt = encode_prompt(lm, "Name a bird")
    vectors = torch.eye(32)[:3] * torch.tensor([[1.0], [5.0], [0.1]])
    found = patchscope(lm, vectors, HookPoint(0), [1.0, 10.0], prompt=prompt, placeholder=2, max_tokens=20)
    assert found.shape == (3, 2, len(lm.tokenizer))
    torch.testing.assert_close(found.sum(-1), torch.ones(3, 2))
    alone = patchscope(lm, vectors[1:2] * 7, HookPoint(0), [10.0], prompt=prompt, placeholder=2)
    torch.testing.assert_close(found[1, 1], alone[0, 0])  # lengths don't matter, scales do
    assert not torch.allclose(found[1, 0], found[1, 1], atol=1e-4)
    elsewhere = patchscope(lm, vectors[1:2], HookPoint(0), [10.0], prompt=prompt, placeholder=3)
    assert not torch.allclose(elsewhere[0, 0], alone[0, 0], atol=1e-4)


@pytest.fixture
def shifted(lm, tmp_path):
    """A pair whose adapter doubles the first block's MLP output: its delta is the weight itself, at full rank."""
    from peft import LoraConfig, get_peft_model

    other = build("llama")
    config = LoraConfig(r=32, lora_alpha=32, target_modules=["down_proj"], layers_to_transform=[0])
    tuned = get_peft_model(other.model, config)
    for name, parameter in tuned.named_parameters():
        if "lora_A" in name:
            parameter.data = other.anatomy.mlps[0].down_proj.base_layer.weight.data.clone()
        elif "lora_B" in name:
            parameter.data = torch.eye(32)
    tuned.save_pretrained(tmp_path / "tuned")
    with ModelPair(lm) as pair:
        pair.add("tuned", tmp_path / "tuned", check_base=False)
        yield pair


def test_the_difference_is_what_the_adapter_adds(shifted):
    """At block 0 the tuned model adds each token's MLP output once more; the mean over texts is taken position by
    position, by a plain recording of the base model."""
    lm = shifted.base
    texts = [encode_text(lm, text) for text in ("The year is 1849.", "By train, by steamer", "Sure! The telephone was")]
    points = [HookPoint(0), HookPoint(0, "resid_pre")]
    found = activation_difference(shifted, texts, points, 4, "tuned")
    added, norms = [], []
    for text in texts:
        with torch.no_grad(), record(lm, [HookPoint(0, "mlp_out"), HookPoint(0)]) as seen:
            lm.model(**pad([text], lm.pad_id).inputs)
        added.append(seen[HookPoint(0, "mlp_out")][0, :4].double())
        norms.append(seen[HookPoint(0)][0, :4].double().norm(dim=-1))
    torch.testing.assert_close(found.values[0], torch.stack(added).mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.norms[0], torch.stack(norms).mean(0), rtol=1e-4, atol=1e-5)
    assert float(found.values[1].abs().max()) == 0.0 and found.n == 3 and found.points == tuple(points)


def test_many_texts_are_their_parts_together(shifted):
    lm = shifted.base
    texts = [Encoded((1, 5 + i % 50, 7, 9 + i % 20), 0) for i in range(300)]
    whole = activation_difference(shifted, texts, [HookPoint(1)], 3, "tuned")
    parts = [activation_difference(shifted, texts[a:b], [HookPoint(1)], 3, "tuned") for a, b in ((0, 100), (100, 300))]
    torch.testing.assert_close(whole.values, (parts[0].values + 2 * parts[1].values) / 3, rtol=1e-5, atol=1e-6)
    assert lm.d_model == whole.values.shape[-1]


def test_what_is_refused(shifted):
    lm, text = shifted.base, encode_text(shifted.base, "Hi")
    one = torch.ones(1, 32)
    with pytest.raises(AnachronError, match="d_model 32"):
        logit_lens(lm, torch.ones(1, 16))
    with pytest.raises(AnachronError, match="0 tokens asked for"):
        logit_lens(lm, one, n=0)
    with pytest.raises(AnachronError, match="at least one scale"):
        patchscope(lm, one, HookPoint(0), [])
    with pytest.raises(AnachronError, match="aren't 0"):
        patchscope(lm, torch.zeros(1, 32), HookPoint(0), [1.0])
    with pytest.raises(AnachronError, match="placeholder 99"):
        patchscope(lm, one, HookPoint(0), [1.0], placeholder=99)
    with pytest.raises(AnachronError, match="text 0 has fewer"):
        activation_difference(shifted, [text], [HookPoint(0)], 40, "tuned")
    with pytest.raises(AnachronError, match="there are none"):
        activation_difference(shifted, [], [HookPoint(0)], 1, "tuned")
    with pytest.raises(AnachronError, match="finite"):
        logit_lens(replace(lm), one * float("nan"))
