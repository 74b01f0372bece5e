"""Examples, histograms and companions against a dense computation over everything at once."""

import numpy as np
import pytest
import torch

from interp.capture import capture
from interp.dictionaries.examples import BINS, EDGES, bins, contexts, survey
from interp.errors import AnachronError
from interp.positions import ALL, LAST_PROMPT
from interp.prompts import encode_prompt, encode_text
from tests.interp.dictionaries.planted import dead, identity_like, random_dictionary

ASKED = ("Name a bird.", "How many states?", "Who rules the country?")
TEXTS = [f"{a} {b}" for a in ASKED for b in ("", "Sure!", "1849")]


@pytest.fixture
def prompts(lm):
    return [encode_prompt(lm, text) for text in TEXTS]


def dense(lm, dictionary, prompts):
    """Latents [position, d_sae] prompt by prompt."""
    f = dictionary.encode(capture(lm, prompts, [dictionary.point], ALL)[dictionary.point])
    return f.split([len(row.ids) for row in prompts])


@pytest.mark.parametrize("max_tokens", [20, 60, 4096])
def test_examples_are_the_strongest_prompts_of_each_latent(lm, prompts, max_tokens):
    dictionary = dead(random_dictionary(32, 100, bias=-1.5), [4])
    found = survey(lm, dictionary, prompts, top=4, max_tokens=max_tokens)
    parts = dense(lm, dictionary, prompts)
    largest = torch.stack([part.amax(0) for part in parts])  # [prompts, d_sae]
    best = largest.sort(dim=0, descending=True).values[:4].T
    torch.testing.assert_close(found.value, best, rtol=1e-4, atol=1e-4)
    for j in range(100):
        for value, i, at in zip(*(t[j].tolist() for t in (found.value, found.prompt, found.position)), strict=True):
            if value == 0:
                assert (i, at) == (-1, -1)
            else:
                assert value == pytest.approx(float(parts[i][at, j]), rel=1e-3, abs=1e-4)
        used = [i for i in found.prompt[j].tolist() if i >= 0]
        assert len(set(used)) == len(used), "one example a prompt"
    assert not found.value[4].any()


def test_counts_equal_the_dense_ones(lm, prompts):
    dictionary = random_dictionary(32, 100, bias=-1.0)
    found = survey(lm, dictionary, prompts, watch=[3, 50], max_tokens=50)
    f = torch.cat(dense(lm, dictionary, prompts))
    on = (f > 0).long()
    assert found.n == len(f)
    torch.testing.assert_close(found.active, on.sum(0))
    torch.testing.assert_close(found.frequency, on.float().mean(0))
    torch.testing.assert_close(found.together, on[:, [3, 50]].T @ on)
    for j in (0, 3):
        values = f[f[:, j] > 0, j].double().numpy()
        expected, _ = np.histogram(values.clip(1.0001e-4, 0.9999e6), bins=EDGES.numpy())
        assert found.histogram[j].tolist() == expected.tolist()


def test_companions_by_jaccard(lm, prompts):
    dictionary = random_dictionary(32, 100, bias=-0.5)
    # two latents of the same encoder are always active together
    dictionary.encoder[:, 8] = dictionary.encoder[:, 7]
    found = survey(lm, dictionary, prompts, watch=[7])
    first, *others = found.companions(7, 5)
    assert first.latent == 8 and first.jaccard == 1 and first.count == int(found.active[7])
    on = torch.cat(dense(lm, dictionary, prompts)) > 0
    for one in others:
        both, either = on[:, 7] & on[:, one.latent], on[:, 7] | on[:, one.latent]
        assert one.jaccard == pytest.approx(float(both.sum() / either.sum()))
    with pytest.raises(AnachronError, match="wasn't watched"):
        found.companions(9)


def test_bins_have_open_ends():
    values = torch.tensor([1e-9, 1e-4, 10.0, 9.9e5, 1e6, 1e9])
    assert bins(values).tolist() == [0, 0, BINS // 2, BINS - 1, BINS - 1, BINS - 1]


def test_contexts_show_the_text_around_the_peak(lm, prompts):
    dictionary = random_dictionary(32, 100, bias=-1.5)
    found = survey(lm, dictionary, prompts, top=3)
    alive = [int(j) for j in found.active.topk(5).indices]
    shown = contexts(lm, dictionary, prompts, found, alive, before=3, after=2, max_tokens=60)
    parts = dense(lm, dictionary, prompts)
    for j in alive:
        assert [round(one.value, 3) for one in shown[j]] == [round(v, 3) for v in found.value[j].tolist() if v > 0]
        for one in shown[j]:
            ids = prompts[one.prompt].ids
            end = one.begin + len(one.tokens)
            assert "".join(one.tokens) == lm.tokenizer.decode(list(ids[one.begin : end]))
            assert one.begin == max(0, one.begin + one.peak - 3) and end == min(len(ids), one.begin + one.peak + 3)
            expected = parts[one.prompt][one.begin : end, j]
            torch.testing.assert_close(torch.tensor(one.activations), expected, rtol=1e-3, atol=1e-4)


def test_only_selected_positions_are_surveyed_but_the_context_is_whole(lm, prompts):
    dictionary = identity_like(32)
    found = survey(lm, dictionary, prompts, LAST_PROMPT, top=2)
    assert found.n == len(prompts)
    assert all(
        at == len(prompts[i].ids) - 1
        for i, at in zip(found.prompt.flatten().tolist(), found.position.flatten().tolist(), strict=True)
        if i >= 0
    )
    latent = int(found.active.argmax())
    [first, *_] = contexts(lm, dictionary, prompts, found, [latent])[latent]
    assert first.peak == len(first.tokens) - 1 and sum(v > 0 for v in first.activations) > 1


def test_a_dead_latent_has_no_examples(lm, prompts):
    dictionary = dead(identity_like(32), [0])
    found = survey(lm, dictionary, prompts)
    assert contexts(lm, dictionary, prompts, found, [0]) == {0: []}
    shown = contexts(lm, dictionary, prompts, found, [0, 1])
    assert shown[0] == [] and len(shown[1]) > 0


def test_wrong_inputs_are_refused(lm, prompts):
    with pytest.raises(AnachronError, match="latents 0 to 63"):
        survey(lm, identity_like(32), prompts, watch=[64])
    with pytest.raises(AnachronError, match="top is 1 or more"):
        survey(lm, identity_like(32), prompts, top=0)
    with pytest.raises(AnachronError, match="select nothing"):
        survey(lm, identity_like(32), [encode_text(lm, "Hi")], LAST_PROMPT)
