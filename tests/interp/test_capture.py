"""Captured rows against Hugging Face's own hidden states, one prompt at a time; moments against numpy."""

import numpy as np
import pytest
import torch

from interp.capture import capture, capture_pair, count_rows, moments
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.pair import ModelPair
from interp.positions import ALL, ANSWER, LAST_PROMPT, PROMPT, span
from interp.prompts import Encoded, batches
from tests.families import build

RESID_POST = [HookPoint(layer) for layer in range(3)]
SHAPES = ((6, 3), (2, 1), (9, 0), (4, 5), (2, 2), (1, 7))


def rows(shapes=SHAPES, seed=0):
    """Encoded rows of (prompt length, answer length)."""
    generator = torch.Generator().manual_seed(seed)
    return [Encoded(tuple(torch.randint(6, 300, (p + a,), generator=generator).tolist()), p) for p, a in shapes]


def hidden_states(lm, encoded):
    """Per prompt: [n_layers + 1, pos, d_model], alone and unpadded; entry i + 1 is block i's output."""
    with torch.no_grad():
        return [
            torch.cat(lm.model(input_ids=torch.tensor([e.ids]), output_hidden_states=True).hidden_states)
            for e in encoded
        ]


def padded_on(monkeypatch, side):
    monkeypatch.setattr(
        "interp.capture.batches", lambda encoded, pad_id, *args: batches(encoded, pad_id, *args, side=side)
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_equal_hidden_states_of_prompts_alone(family_lm, side, monkeypatch):
    padded_on(monkeypatch, side)
    encoded = rows()
    expected = hidden_states(family_lm, encoded)
    # The last hidden state is after the final norm, so the last layer is compared through that norm.
    for positions, of in (
        (ALL, lambda e: range(len(e.ids))),
        (LAST_PROMPT, lambda e: [e.prompt_len - 1]),
        (ANSWER, lambda e: range(e.prompt_len, len(e.ids))),
        (span(1, 3), lambda e: range(1, min(3, len(e.ids)))),
    ):
        found = capture(family_lm, encoded, [*RESID_POST, HookPoint(0, "resid_pre")], positions, max_tokens=24)
        for point, state in ((HookPoint(0), 1), (HookPoint(1), 2), (HookPoint(0, "resid_pre"), 0)):
            by_hand = torch.cat([h[state, list(of(e))] for e, h in zip(encoded, expected, strict=True)])
            torch.testing.assert_close(found[point], by_hand, atol=1e-4, rtol=1e-4)
        by_hand = torch.cat([h[3, list(of(e))] for e, h in zip(encoded, expected, strict=True)])
        with torch.no_grad():
            torch.testing.assert_close(family_lm.anatomy.final_norm(found[HookPoint(2)]), by_hand, atol=2e-4, rtol=1e-4)


def test_rows_come_in_input_order_whatever_the_batching(lm):
    encoded = rows()
    for positions in (ALL, LAST_PROMPT, ANSWER):
        alone = torch.cat(
            [
                capture(lm, [e], RESID_POST, positions)[HookPoint(1)]
                for e in encoded
                if count_rows(lm, [e], positions)[0]
            ]
        )
        for max_tokens in (1, 13, 4096):
            got = capture(lm, encoded, RESID_POST, positions, max_tokens=max_tokens)[HookPoint(1)]
            torch.testing.assert_close(got, alone, atol=1e-4, rtol=1e-4)
        backwards = capture(lm, encoded[::-1], RESID_POST, LAST_PROMPT)[HookPoint(1)]
        torch.testing.assert_close(
            backwards.flip(0), capture(lm, encoded, RESID_POST, LAST_PROMPT)[HookPoint(1)], atol=1e-4, rtol=1e-4
        )


def test_counts_and_dtype(lm):
    encoded = rows()
    assert count_rows(lm, encoded, ALL) == [9, 3, 9, 9, 4, 8]
    assert count_rows(lm, encoded, ANSWER) == [3, 1, 0, 5, 2, 7]
    assert count_rows(lm, encoded, PROMPT) == [6, 2, 9, 4, 2, 1]
    lm.model.bfloat16()
    found = capture(lm, encoded, [HookPoint(1, "mlp_out")], ANSWER)
    assert set(found) == {HookPoint(1, "mlp_out")}
    assert found[HookPoint(1, "mlp_out")].shape == (18, 32)
    assert found[HookPoint(1, "mlp_out")].dtype == torch.bfloat16
    assert not found[HookPoint(1, "mlp_out")].requires_grad


def test_the_forward_ends_at_the_last_layer_needed(lm):
    called = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in {
            "1": lm.anatomy.layers[1],
            "2": lm.anatomy.layers[2],
            "unembed": lm.anatomy.unembed,
        }.items()
    ]
    capture(lm, rows(), [HookPoint(1, "attn_out"), HookPoint(0)], ALL)
    assert called == []
    capture(lm, rows(), [HookPoint(1)], ALL)
    assert set(called) <= {"1"}
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("max_tokens", [1, 20, 4096])
def test_moments_equal_numpy(lm, max_tokens):
    encoded = rows()
    for positions in (ALL, ANSWER):
        array = {p: x.double().numpy() for p, x in capture(lm, encoded, RESID_POST, positions, max_tokens).items()}
        for point, got in moments(lm, encoded, RESID_POST, positions, max_tokens).items():
            assert got.n == len(array[point])
            np.testing.assert_allclose(got.mean, array[point].mean(axis=0), rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(got.var, array[point].var(axis=0), rtol=1e-10)
            assert got.mean_norm == pytest.approx(np.linalg.norm(array[point], axis=1).mean(), rel=1e-12)


def test_moments_keep_their_digits_under_a_huge_mean(lm):
    """E[x^2] - E[x]^2 would keep none of the variance's digits here."""
    lm.model.get_input_embeddings().weight.data[:, 0] += 3e6
    found, point = moments(lm, rows(), [HookPoint(0, "resid_pre")], ALL, max_tokens=9), HookPoint(0, "resid_pre")
    array = capture(lm, rows(), [point], ALL, max_tokens=9)[point].double().numpy()
    np.testing.assert_allclose(found[point].var, array.var(axis=0), rtol=1e-9)


def test_what_selects_nothing_or_is_not_there_is_refused(lm):
    with pytest.raises(AnachronError, match="'answer' select nothing in 1 prompts"):
        capture(lm, rows([(9, 0)]), RESID_POST, ANSWER)
    with pytest.raises(AnachronError, match="select nothing in 0 prompts"):
        moments(lm, [], RESID_POST, ALL)
    with pytest.raises(AnachronError, match="layers 0 to 2"):
        capture(lm, rows(), [HookPoint(3)], ALL)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.model.modules())


@pytest.fixture
def adapters(tmp_path):
    """Two random adapters for the tiny Llama model; the second leaves layer 0 alone."""
    from peft import LoraConfig, get_peft_model

    folders = []
    for seed, layers in ((1, [0, 1, 2]), (2, [1, 2])):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = LoraConfig(
                r=2,
                target_modules=["q_proj", "down_proj"],
                layers_to_transform=layers,
                task_type="CAUSAL_LM",
                init_lora_weights=False,
            )
            get_peft_model(build("llama").model, config).save_pretrained(tmp_path / str(seed))
        folders.append(tmp_path / str(seed))
    return folders


@pytest.mark.parametrize("max_tokens", [4096, 12])
def test_a_pair_is_captured_like_each_of_its_models(lm, adapters, max_tokens):
    encoded, names = rows(), ["tuned-1", "base", "tuned-0"]
    plain = capture(lm, encoded, RESID_POST, ALL)
    with ModelPair(lm) as pair:
        for i, folder in enumerate(adapters):
            pair.add(f"tuned-{i}", folder)
        found = capture_pair(pair, names, encoded, RESID_POST, ALL, max_tokens)
        assert list(found) == names
        for name in names:
            with pair.using(name) as member:
                alone = capture(member, encoded, RESID_POST, ALL)
            for point in RESID_POST:
                torch.testing.assert_close(found[name][point], alone[point], atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(found["base"][HookPoint(2)], plain[HookPoint(2)], atol=2e-4, rtol=1e-4)
        # The control: below its first adapted layer an adapter changes nothing at all.
        difference = found["tuned-1"][HookPoint(0)] - found["base"][HookPoint(0)]
        assert (
            float(difference.abs().max())
            < 1e-4
            < float((found["tuned-0"][HookPoint(0)] - found["base"][HookPoint(0)]).abs().max())
        )
        # a prompt without an answer gives no rows, and may have a batch of its own
        answers = capture_pair(pair, names, encoded, RESID_POST, ANSWER, max_tokens)
        of_answers = torch.cat(
            [torch.arange(6, 9), torch.tensor([11]), *(torch.arange(a, b) for a, b in ((25, 30), (32, 34), (35, 42)))]
        )
        torch.testing.assert_close(
            answers["tuned-0"][HookPoint(2)], found["tuned-0"][HookPoint(2)][of_answers], atol=2e-4, rtol=1e-4
        )
        lone = rows([(9, 0), (2, 2)])
        assert len(capture_pair(pair, ["base", "tuned-0"], lone, RESID_POST, ANSWER, 18)["base"][HookPoint(0)]) == 2
        with pytest.raises(AnachronError, match="no names"):
            capture_pair(pair, [], encoded, RESID_POST, ALL)
        with pytest.raises(AnachronError, match="tuned-9"):
            capture_pair(pair, ["base", "tuned-9"], encoded, RESID_POST, ALL)
