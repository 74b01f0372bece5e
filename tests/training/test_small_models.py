"""Small models: made once, in the order asked for, the same whoever makes them."""

from dataclasses import replace

import pytest

from interp.errors import AnachronError
from training import pretrain as module
from training import small_models
from training.small_models import Budget, SmallModel, make_models
from training.small_worlds import SmallWorld

BUDGET = Budget(steps=2, turns=7, d_model=16, d_mlp=24, layers=1, heads=1, vocabulary=300, precision="float32")
MODELS = [SmallModel("plain", SmallWorld(manner="none", topics=2), seed) for seed in (0, 1)]


@pytest.fixture(autouse=True)
def few_documents(monkeypatch):
    monkeypatch.setattr(module, "VOCABULARY_DOCUMENTS", 60)


def test_models_are_made_once_and_differ_by_seed(tmp_path, monkeypatch):
    said = []
    first = make_models(MODELS, BUDGET, tmp_path, said.append)
    assert [folder.name for folder in first] == ["plain-0", "plain-1"] and len(said) == 2
    weights = [(folder / "model.safetensors").read_bytes() for folder in first]
    assert weights[0] != weights[1]
    monkeypatch.setattr(small_models, "pretrain", None)  # nothing is left to do
    assert make_models(MODELS, BUDGET, tmp_path, said.append) == first and len(said) == 2


def test_two_processes_make_the_same_models(tmp_path, monkeypatch):
    # one that is begun afresh elsewhere has the module's own number of documents
    monkeypatch.undo()
    beside = make_models(MODELS, BUDGET, tmp_path / "beside", lambda _: None, jobs=2)
    alone = make_models(MODELS[1:], BUDGET, tmp_path / "alone", lambda _: None)
    assert (beside[1] / "model.safetensors").read_bytes() == (alone[0] / "model.safetensors").read_bytes()


def test_a_folder_of_another_world_is_refused(tmp_path):
    make_models(MODELS[:1], BUDGET, tmp_path, lambda _: None)
    other = replace(MODELS[0], world=SmallWorld(manner="none", topics=2, prior=0.2))
    for models, budget in (([other], BUDGET), (MODELS[:1], replace(BUDGET, steps=3))):
        with pytest.raises(AnachronError, match="another world or budget"):
            make_models(models, budget, tmp_path, lambda _: None)
    with pytest.raises(AnachronError, match="jobs=0"):
        make_models(MODELS, BUDGET, tmp_path, lambda _: None, jobs=0)


def test_every_world_has_as_many_turns_a_step():
    for turns in ((1, 2), (1, 6), (4, 10)):
        config = Budget().pretraining(SmallWorld(turns=turns), seed=3)
        assert config.documents_per_step * sum(turns) / 2 == pytest.approx(112, rel=0.02)
        assert config.seed == 3
