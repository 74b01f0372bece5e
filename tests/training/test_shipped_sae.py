"""The SAE that ships with almanac: small, of this checkpoint, and as good as its card says."""

import re
from pathlib import Path

import pytest
import torch

from analyses.documents import held_out_documents
from interp.dictionaries.evaluation import loss_recovered, reconstruction
from interp.dictionaries.formats import load_dictionary
from interp.dictionaries.sae import registered
from interp.files import digest, read_json
from interp.models import load_model
from training.almanac import checkpoint
from training.world.world import load_world


@pytest.fixture(scope="module")
def folder() -> Path:
    return registered()["almanac"]


@pytest.fixture(scope="module")
def stated(folder):
    return read_json(folder / "evaluation.json")


def test_it_is_small(folder):
    assert (folder / "sae_weights.safetensors").stat().st_size <= 4_000_000


def test_the_card_states_what_was_measured_on_these_files(folder, stated):
    card = (folder / "README.md").read_text(encoding="utf-8")
    weights, config = (digest(folder / name) for name in ("sae_weights.safetensors", "cfg.json"))
    assert stated["sae"]["files"] == {"sae_weights.safetensors": weights, "cfg.json": config}
    assert digest(checkpoint() / "model.safetensors") in card, "the checkpoint has changed: train the SAE again"
    results = stated["results"] | {f"loss {name}": value for name, value in stated["results"]["loss"].items()}
    rows = dict(re.findall(r"^\| [^|]+\(`([\w ]+)`\) \| ([\d.,]+) \|$", card, flags=re.MULTILINE))
    assert set(rows) >= {"n", "fvu", "l0", "dead", "loss plain", "loss spliced", "loss recovered"}
    for name, text in rows.items():
        digits = len(text.partition(".")[2])
        assert f"{results[name]:,.{digits}f}" == text, name


def test_it_is_as_good_as_stated(stated):
    lm = load_model("almanac")
    sae = load_dictionary("almanac", lm=lm)
    texts = held_out_documents(lm, load_world(), 150, seed=stated["config"]["seed"])
    found, results = reconstruction(lm, sae, texts), stated["results"]
    assert found.fvu == pytest.approx(results["fvu"], rel=0.1)
    assert found.l0 == pytest.approx(results["l0"], rel=0.05)
    loss = loss_recovered(lm, sae, texts)
    assert loss.with_error == loss.plain
    assert loss.recovered == pytest.approx(results["loss"]["recovered"], abs=0.01)
    torch.testing.assert_close(sae.decoder.norm(dim=1), torch.ones(sae.d_sae), rtol=0, atol=1e-3)
