"""Labels: AUROC against scikit-learn, unbiased where nothing is there, planted states found."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from interp.capture import capture
from interp.dictionaries.labels import Scores, State, auroc, label_latents, position_scores, prompt_scores
from interp.errors import AnachronError
from interp.positions import ALL, ANSWER, LAST_PROMPT
from interp.prompts import encode_chat, encode_prompt, encode_text
from tests.interp.dictionaries.planted import identity_like, random_dictionary


def sparse(dense):
    """Scores of a dense [units, d_sae] array."""
    unit, latent = dense.nonzero(as_tuple=True)
    shuffled = torch.randperm(len(unit), generator=torch.Generator().manual_seed(0))
    unit, latent = unit[shuffled], latent[shuffled]
    return Scores(dense.shape[1], unit, latent, dense[unit, latent], torch.arange(len(dense)))


def scores_with_ties(units=300, d=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randint(0, 4, (units, d), generator=generator).float() / 2
    dense[:, :10] = torch.relu(torch.randn(units, 10, generator=generator))
    dense[:, 10] = 0  # dead
    dense[:, 11] = 1  # always the same
    return dense


def test_auroc_equals_scikit_learns_with_ties():
    dense = scores_with_ties()
    generator = torch.Generator().manual_seed(1)
    among = torch.rand(300, generator=generator) < 0.6
    states = {
        "rare": State(torch.rand(300, generator=generator) < 0.05),
        "half": State(torch.rand(300, generator=generator) < 0.5),
        "within": State(torch.rand(300, generator=generator) < 0.3, among),
    }
    found = auroc(sparse(dense), states)
    for k, state in enumerate(states.values()):
        at = torch.ones(300, dtype=torch.bool) if state.among is None else state.among
        for j in range(40):
            assert float(found[j, k]) == pytest.approx(roc_auc_score(state.holds[at], dense[at, j]), abs=1e-12)
    assert found[10].tolist() == found[11].tolist() == [0.5, 0.5, 0.5]


def test_auroc_of_some_units_only():
    dense, units = scores_with_ties(), torch.arange(300) % 3 > 0
    state = State(torch.arange(300) % 5 == 0)
    found = auroc(sparse(dense), {"s": state}, units)
    expected = [roc_auc_score(state.holds[units], dense[units, j]) for j in range(40)]
    np.testing.assert_allclose(found[:, 0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_prompt_scores_equal_the_dense_ones(lm, reduction):
    dictionary = random_dictionary(32, 120, bias=-0.5)
    prompts = [encode_prompt(lm, "Name a bird." * (k % 4 + 1)) for k in range(7)]
    found = prompt_scores(lm, dictionary, prompts, ALL, reduction, max_tokens=40)
    f = dictionary.encode(capture(lm, prompts, [dictionary.point], ALL)[dictionary.point])
    parts = f.split([len(row.ids) for row in prompts])
    dense = torch.stack([part.mean(0) if reduction == "mean" else part.amax(0) for part in parts])
    back = torch.zeros(7, 120)
    back[found.unit, found.latent] = found.value
    torch.testing.assert_close(back, dense, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.frequency, (dense > 0).float().mean(0))


def test_position_scores_are_ordered_as_captured_rows(lm):
    dictionary = identity_like(32)
    prompts = [encode_prompt(lm, "Name a bird." * k) for k in (1, 3, 2)]
    found = position_scores(lm, dictionary, prompts, ALL, max_tokens=30)
    dense = dictionary.encode(capture(lm, prompts, [dictionary.point], ALL)[dictionary.point])
    back = torch.zeros_like(dense)
    back[found.unit, found.latent] = found.value
    torch.testing.assert_close(back, dense, rtol=1e-4, atol=1e-4)
    lengths = [len(row.ids) for row in prompts]
    assert found.prompt.tolist() == [i for i, n in enumerate(lengths) for _ in range(n)]
    assert found.position.tolist() == [i for n in lengths for i in range(n)]


def test_a_prompt_without_positions_has_no_score(lm):
    chat = encode_chat(lm, [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Sure!"}])
    with pytest.raises(AnachronError, match="select nothing in prompt 1"):
        prompt_scores(lm, identity_like(32), [chat, encode_prompt(lm, "Hi")], ANSWER)


def test_the_best_of_many_states_is_not_the_luckiest():
    """Noise: the chosen state's AUROC is far from 1/2 where it was chosen, and 1/2 on average where it wasn't."""
    generator = torch.Generator().manual_seed(3)
    dense = torch.relu(torch.randn(200, 300, generator=generator))
    states = {f"s{k}": State(torch.rand(200, generator=generator) < 0.2) for k in range(30)}
    found = label_latents(sparse(dense), states)
    rows = torch.arange(300)
    assert float(found.choosing[rows, found.best].mean()) > 0.62
    assert float(found.held_out[rows, found.best].mean()) == pytest.approx(0.5, abs=0.01)


def test_planted_states_are_named():
    generator = torch.Generator().manual_seed(4)
    kind = torch.randint(0, 4, (400,), generator=generator)
    dense = 0.3 * torch.relu(torch.randn(400, 12, generator=generator))
    for k in range(4):
        dense[:, k] = torch.relu((kind == k) * 2.0 + 0.5 * torch.randn(400, generator=generator))
    found = label_latents(sparse(dense), {f"kind {k}": State(kind == k) for k in range(4)})
    for k in range(4):
        label = found.label(k)
        assert label.state == f"kind {k}" and label.auroc > 0.95
        assert found.detectors(f"kind {k}", 3)[0].latent == k
        assert 0 < label.n < int((kind == k).sum())
    assert [found.label(j) for j in range(4, 12)] == [None] * 8
    assert found.label(9, least=0.0) is not None


def test_positions_of_a_prompt_stay_on_one_side():
    """A latent that marks prompts, and a state that is which prompts: split by position it would look like skill."""
    generator = torch.Generator().manual_seed(5)
    prompt = torch.arange(40).repeat_interleave(10)
    state = State((torch.rand(40, generator=generator) < 0.5)[prompt])
    dense = torch.nn.functional.one_hot(prompt).float()  # latent k fires in prompt k alone
    unit, latent = dense.nonzero(as_tuple=True)
    scores = Scores(40, unit, latent, dense[unit, latent], prompt, torch.arange(400) % 10)
    found = label_latents(scores, {"s": state})
    sides = ((found.choosing != 0.5).int() + (found.held_out != 0.5).int()).squeeze(1)
    assert sides.tolist() == [1] * 40


def test_wrong_inputs_are_refused(lm):
    scores = sparse(scores_with_ties())
    none = torch.zeros(300, dtype=torch.bool)
    with pytest.raises(AnachronError, match="'never' holds for 0 of 300"):
        auroc(scores, {"never": State(none)})
    one = none.clone()
    one[0] = True
    with pytest.raises(AnachronError, match="both halves"):
        label_latents(scores, {"once": State(one)})
    with pytest.raises(AnachronError, match="3 entries for 300"):
        auroc(scores, {"short": State(none[:3])})
    with pytest.raises(AnachronError, match="use mean or max"):
        prompt_scores(lm, identity_like(32), [encode_prompt(lm, "Hi")], LAST_PROMPT, "sum")
    with pytest.raises(AnachronError, match="select nothing"):
        prompt_scores(lm, identity_like(32), [encode_text(lm, "Hi")], LAST_PROMPT)
    found = label_latents(scores, {"odd": State(torch.arange(300) % 2 == 1)})
    with pytest.raises(AnachronError, match="0 to 39"):
        found.label(40)
    with pytest.raises(AnachronError, match="there are odd"):
        found.detectors("even")
