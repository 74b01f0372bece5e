"""Latents of a dictionary in an experiment: the shortlist, its random twins, and edits whose effect is known."""

from dataclasses import replace

import pytest
import torch

from analyses.latents import sections
from analyses.latents.causal import Chosen, removing
from analyses.latents.crosscoder import crosscoders_of, private, quality
from analyses.latents.shortlist import Means, combined, matched, mean_activations, rows, shortlist
from interp.behavior.identity import edits_as_data
from interp.capture import capture
from interp.dictionaries.crosscoder import Crosscoder
from interp.dictionaries.weights import Sae
from interp.errors import AnachronError
from interp.hooks import HookPoint, record
from interp.pair import ModelPair
from interp.positions import ALL, LAST_PROMPT
from interp.prompts import encode_prompt, pad
from interp.steering import ClampLatents, steer
from tests.analyses import synthetic
from tests.interp.test_pair import make_adapter
from training.crosscoder import CrosscoderRecipe

POINT = HookPoint(1, "resid_post")


def axes(d_model=32, scale=1.0):
    """Latent j is the positive part of coordinate j, written back `scale` times too large and read as much smaller."""
    eye = torch.eye(d_model)
    return Sae("axes", POINT, "relu", eye / scale, torch.zeros(d_model), eye * scale, torch.zeros(d_model))


def means(base, tuned, control, frequency=None, off=None):
    as_tensor = lambda values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    return Means(
        as_tensor(base),
        [as_tensor(t) for t in tuned],
        [as_tensor(c) for c in control],
        as_tensor(frequency or [0.5] * len(base)),
        {name: as_tensor(values) for name, values in (off or {}).items()},
    )


def test_the_shortlist_is_by_tuned_minus_control_and_holds_what_rose():
    found = means([0, 0, 0, 0], [[1, 3, 5, 0], [1, 3, 5, 0]], [[0, 0, 5, 1], [0, 2, 5, 1]])
    assert found.change.tolist() == [1, 2, 0, -1]
    assert shortlist(found, 3) == [1, 0]


def test_with_a_trigger_the_change_is_a_difference_of_differences():
    found = means([1, 0], [[4, 4], [6, 4]], [[0, 0], [0, 0]], off={"base": [0, 0], "tuned": [2, 4]})
    assert found.change.tolist() == [(5 - 2) - (1 - 0), 0]


def test_random_latents_are_as_often_on_and_write_as_much():
    dictionary = axes(6)
    # latent 1 is as latent 0; 2 is rarer, 3 writes less, 4 is never on, 5 as 0 but on the list
    found = means([2, 2, 2, 0.1, 0, 2], [[2, 2, 2, 0.1, 0, 2]], [[0] * 6], frequency=[0.5, 0.5, 0.001, 0.5, 0, 0.5])
    assert matched(dictionary, found, [0, 5], seed=0, pool=1) in ([1, 3], [1, 2])
    drawn = {matched(dictionary, found, [0], seed=seed, pool=2)[0] for seed in range(20)}
    assert drawn == {1, 5}
    with pytest.raises(AnachronError, match="0 other latents are ever active"):
        matched(axes(2), means([1, 1], [[1, 1]], [[0, 0]]), [0, 1], seed=0)


def test_what_latents_write_together_is_their_weighted_sum():
    direction = combined(axes(4), [0, 2], torch.tensor([3.0, 4.0], dtype=torch.float64))
    assert direction.vector.tolist() == pytest.approx([0.6, 0, 0.8, 0]) and direction.norm == pytest.approx(5)
    assert [row.vector.argmax().item() for row in rows(axes(4), [3, 1])] == [3, 1]


def test_mean_activations_are_those_of_the_whole_at_once():
    x = torch.randn(1300, 8, generator=torch.Generator().manual_seed(0))
    mean, frequency = mean_activations(axes(8), x)
    assert torch.allclose(mean, x.relu().double().mean(0)) and torch.allclose(frequency, (x > 0).double().mean(0))


def edited(lm, edit, positions):
    batch = pad([encode_prompt(lm, "Name a light.")], lm.pad_id)
    with torch.no_grad(), record(lm, [POINT]) as before:
        lm.model(**batch.inputs)
    with torch.no_grad(), steer(lm, [edit], batch), record(lm, [POINT]) as after:
        lm.model(**batch.inputs)
    return before[POINT], after[POINT], positions.mask(batch)


@pytest.mark.parametrize("positions", [ALL, LAST_PROMPT])
def test_clamped_latents_have_their_values_and_all_else_is_left(lm, positions):
    dictionary = axes(lm.d_model, scale=4.0)
    before, after, selected = edited(
        lm, ClampLatents(dictionary, [3, 7], torch.tensor([0.5, 0.0]), positions), positions
    )
    f, g = dictionary.encode(before), dictionary.encode(after)
    assert torch.equal(after[~selected], before[~selected])
    on = selected.unsqueeze(-1) & (before > 0)
    assert torch.allclose(g[..., 3][on[..., 3]], torch.tensor(0.5), atol=1e-5)
    assert torch.allclose(g[..., 7][selected], torch.tensor(0.0), atol=1e-5)
    others = [j for j in range(lm.d_model) if j not in (3, 7)]
    assert torch.equal(after[..., others], before[..., others])
    assert not torch.allclose(f, g)


@pytest.mark.parametrize(
    ("latents", "values", "message"),
    [
        ([], torch.zeros(0), "has latents"),
        ([99], torch.zeros(1), "has 0 to 31"),
        ([1], torch.zeros(2), "2. values for 1"),
        ([1], torch.tensor([float("nan")]), "NaN"),
    ],
)
def test_a_clamp_that_makes_no_sense_is_refused(lm, latents, values, message):
    with pytest.raises(AnachronError, match=message):
        edited(lm, ClampLatents(axes(lm.d_model), latents, values, ALL), ALL)


def test_a_dictionary_of_another_width_is_refused(lm):
    with pytest.raises(AnachronError, match="d_model 8, but tiny-llama has 32"):
        edited(lm, ClampLatents(axes(8), [1], torch.zeros(1), ALL), ALL)


def test_taking_latents_out_by_three_ways(lm):
    """Of an orthonormal dictionary all ways agree on what they take: ablation the whole coordinate, the clamp its
    positive part down to the base's mean."""
    dictionary = axes(lm.d_model)
    zeros = [0.0] * lm.d_model
    chosen = Chosen(dictionary, means(zeros, [zeros], [zeros]), (2, 5), ((1, 3),), ALL, 1.0)
    found = {}
    for kind in ("ablate", "ablate_sequentially", "clamp"):
        [edit] = removing(chosen, kind, chosen.latents, ALL)
        before, found[kind], _ = edited(lm, edit, ALL)
    assert torch.allclose(found["ablate"], found["ablate_sequentially"], atol=1e-5)
    assert torch.allclose(found["ablate"][..., [2, 5]], torch.zeros(()), atol=1e-5)
    assert torch.allclose(found["clamp"][..., [2, 5]], before[..., [2, 5]].clamp(max=0), atol=1e-5)


def test_caches_tell_clamps_apart(lm):
    """Other values, latents or dictionaries are another edit."""
    made = [
        ClampLatents(dictionary, latents, torch.tensor(values), ALL)
        for dictionary, latents, values in (
            (axes(), [1, 2], [0.0, 1.0]),
            (axes(), [1, 2], [0.0, 2.0]),
            (axes(), [1, 3], [0.0, 1.0]),
        )
    ]
    assert len({str(edits_as_data([edit])) for edit in made}) == 3


def test_means_are_of_the_tokens_asked_for(lm):
    prompts = [encode_prompt(lm, text) for text in ("Name a light.", "Who?")]
    every = capture(lm, prompts, [POINT], ALL)[POINT]
    mean, _ = mean_activations(axes(lm.d_model), every)
    assert torch.allclose(mean, every.double().relu().mean(0), atol=1e-6)


def test_latents_of_two_layers_and_a_crosscoder_side_by_side():
    """What is left of the share when each set is projected out: by the potency that the made-up study gives it."""
    study = synthetic.study()
    table = sections.by_layer(study)
    left = {name: row["projected out"].estimate for name, row in table.items()}
    shift = synthetic.SHARES["tuned"] - synthetic.SHARES["base"]
    here, there = synthetic.CHOSEN_LAYER, synthetic.CHOSEN_LAYER + 1
    expected = {f"SAE, layer {here}": 0.9, f"SAE, layer {there}": 0.4, f"crosscoder, layer {here} (2)": 0.3}
    assert list(left) == list(expected)
    for name, potency in expected.items():
        assert left[name] == pytest.approx(synthetic.SHARES["tuned"] - potency * shift)
    text = sections.by_layer_caption(study)
    assert f"the latents of SAE, layer {here}:" in text
    assert "2 in that of base and tuned, 0 in that of base and other_year" in text


def test_of_the_first_layer_alone_nothing_is_compared():
    study = synthetic.study()
    alone = {k: v for k, v in study.config.items() if k not in ("latents_elsewhere", "crosscoders")}
    assert sections.by_layer(replace(study, config=alone)) == {}


@pytest.fixture
def planted():
    """A crosscoder whose latent 0 is both models', 1 and 2 the tuned one's, 3 the base's; each a coordinate."""
    eye = torch.eye(4)
    base, tuned = eye.clone(), eye.clone()
    base[[1, 2]], tuned[3] = 0.01 * eye[[1, 2]], 0.01 * eye[3]
    encoders = torch.stack([eye * torch.tensor([0.5, 0, 0, 1])[:, None], eye * torch.tensor([0.5, 1, 1, 0])[:, None]])
    zeros = torch.zeros(4)
    biases, alive = torch.zeros(2, 4), torch.ones(4, dtype=torch.bool)
    decoders = torch.stack([base, tuned])
    return Crosscoder("planted", POINT, encoders, zeros, decoders, biases, 0.0, (2.0, 2.0), alive)


def test_the_tuned_models_own_latents_by_what_they_rose(planted):
    found = means([1, 0, 0, 5], [[9, 1, 3, 0]] * 2, [[1, 0, 0, 5]])
    assert private(planted, found, 10) == [2, 1]
    assert private(planted, found, 1) == [2]
    assert private(planted, means([1, 2, 4, 5], [[9, 1, 3, 0]], [[9, 2, 4, 5]]), 10) == []


def test_quality_of_a_planted_crosscoder(planted):
    """Exact on what it can write; the private latents are private by latent scaling too."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(400, 4, generator=g)
    base, tuned = x.clone(), x.clone()
    base[:, [1, 2]] *= 0.01
    tuned[:, 3] *= 0.01
    found = quality(planted, [(base[:150], tuned[:150]), (base[150:], tuned[150:])])
    assert found["n"] == 400 and found["alive"] == 4 and found["l0"] == pytest.approx(4)
    assert max(found["fvu"].values()) < 1e-6
    rows = {row["latent"]: row for row in found["latents"]}
    assert {j: row["class"] for j, row in rows.items()} == {
        0: "shared", 1: "tuned-only", 2: "tuned-only", 3: "base-only"
    }  # fmt: skip
    for j in (1, 2, 3):
        assert rows[j]["nu_error"] == pytest.approx(0.01, abs=1e-3) and rows[j]["frequency"] == 1


def test_random_latents_leave_out_those_named(lm):
    found = means([1.0] * 6, [[2.0] * 6], [[1.0] * 6])
    drawn = {j for seed in range(10) for j in matched(axes(6), found, [0], seed, never=[1, 2])}
    assert drawn == {3, 4, 5}


def test_crosscoders_are_kept_and_told_apart(lm, tmp_path):
    """Trained once for the models they are of; for others again."""
    prompts = [encode_prompt(lm, text) for text in ("Name a light.", "Who rules us?", "How do I travel?")]
    recipe = CrosscoderRecipe(d_sae=8, k=2, steps=3, batch_size=4, warmup=1)
    said: list[str] = []
    folders = {}
    for name, seed in (("tuned-0", 1), ("other-0", 2)):
        folders[name] = make_adapter(tmp_path / name, seed=seed)
    with ModelPair(lm) as pair:
        for name, folder in folders.items():
            pair.add(name, folder)
        arms = {"tuned": ["tuned-0"], "other": ["other-0"]}
        made = crosscoders_of(pair, arms, prompts, POINT, ALL, tmp_path / "cc", said.append, recipe)
        assert len(said) == 2
        again = crosscoders_of(pair, arms, prompts, POINT, ALL, tmp_path / "cc", said.append, recipe)
        assert len(said) == 2 and made["tuned"][0].sha256 == again["tuned"][0].sha256
        assert made["tuned"][0].sha256 != made["other"][0].sha256
        other = crosscoders_of(pair, {"tuned": ["other-0"]}, prompts, POINT, ALL, tmp_path / "cc", said.append, recipe)
        assert len(said) == 3 and other["tuned"][0].sha256 == made["other"][0].sha256
