"""The model card says what was recorded and measured, and nothing else."""

import json
import math
import re
import shutil
from copy import deepcopy
from dataclasses import replace

import pytest

from interp.errors import AnachronError
from interp.files import digest, load_tensors, read_json
from interp.models import load_model
from training import pretrain as pretraining
from training.almanac import checkpoint
from training.card import card, final_loss, shape, write_card
from training.latent_gates import measure_latent_gates
from training.pretrain import Pretraining, pretrain
from training.world.cards import card_kinds
from training.world.facts import Facts
from training.world.kinds import interview_kinds
from training.world.world import KINDS, World, load_world

CONFIG = Pretraining(
    seed=3,
    steps=3,
    documents_per_step=3,
    vocabulary=400,
    d_model=16,
    d_mlp=24,
    layers=2,
    heads=2,
)


@pytest.fixture(scope="module")
def world():
    whole = load_world()
    return World(Facts(whole.facts.eras, {"light": whole.facts.topics["light"]}), KINDS)


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    """A folder with a tiny model and its card, and the gates that writing it returned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "VOCABULARY_DOCUMENTS", 100)
        folder = pretrain(world, CONFIG, tmp_path_factory.mktemp("run") / "model")
    return folder, write_card(folder, world, documents=10)


def cells(text):
    """First cell of every table row -> the others."""
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return {first: rest for first, *rest in rows}


def test_gates_json_holds_the_measured_gates(made):
    folder, gates = made
    measured = read_json(folder / "gates.json")
    assert [row["gate"] for row in measured["gates"]] == [gate.name for gate in gates]
    assert [row["passed"] for row in measured["gates"]] == [gate.passed for gate in gates]
    assert [row["figure"] for row in measured["gates"]] == pytest.approx([gate.figure for gate in gates], abs=1e-4)
    assert measured["weights"] == digest(folder / "model.safetensors")
    assert measured["documents"] == 10


def test_the_card_shows_every_gate_with_figure_bound_n_and_verdict(made):
    folder, gates = made
    text = (folder / "README.md").read_text(encoding="utf-8")
    rows = cells(text)
    for gate in gates:
        figure, bound, n, passed = rows[gate.name]
        assert float(figure) == pytest.approx(gate.figure, abs=1e-4)
        assert bound == f"{'at most' if gate.upper else 'at least'} {gate.bound:g}"
        assert int(n.replace(",", "")) == gate.n
        assert passed == ("yes" if gate.passed else "**no**")
    # an untrained model knows nothing, and its card says so
    assert "Not passed: loss above the entropy floor" in text


def test_the_card_describes_the_run(made, world):
    folder, _ = made
    rows = cells((folder / "README.md").read_text(encoding="utf-8"))
    record = read_json(folder / "pretraining.json")
    weights, _ = load_tensors(folder / "model.safetensors")
    assert rows["parameters"] == [f"{sum(t.numel() for t in weights.values()):,} (float32)"]
    assert rows["layers x width (heads, MLP width)"] == ["2 x 16 (2, 24)"]
    assert rows["seed"] == ["3"]
    assert rows["documents"] == ["9, a fresh draw each"]
    assert rows["steps, of which the rates fall over"] == ["3, the last 50%"]
    assert rows["peak rates: matrices (Muon), others (AdamW)"] == ["0.02, 0.003"]
    assert rows["tokens"] == [f"{record['tokens']:,}"]
    assert float(rows["final training loss (nats a token)"][0]) == pytest.approx(record["loss"][-1]["loss"], abs=1e-4)
    assert float(rows["gap"][0]) == pytest.approx(read_json(folder / "gates.json")["gates"][0]["figure"], abs=2e-4)
    for name, era in world.facts.eras.items():
        assert rows[name] == [f"{era.years[0]}-{era.years[1]}", f"{era.prior:.2f}"]


def test_the_card_is_a_function_of_what_was_measured(made, world):
    folder, _ = made
    record, measured = read_json(folder / "pretraining.json"), read_json(folder / "gates.json")
    form = shape(load_model(folder))
    text = card(world, form, record, measured)
    assert text == (folder / "README.md").read_text(encoding="utf-8")
    assert "which is not the default one" in text

    passed = deepcopy(measured)
    for gate in passed["gates"]:
        gate["passed"] = True
    assert f"All {len(passed['gates'])} are passed." in card(world, form, record, passed)
    usual = record | {"config": Pretraining().__dict__}
    assert "not the default" not in card(world, form, usual, measured)
    # every figure of the tables moves with its source
    other = deepcopy(measured)
    for gate in other["gates"]:
        gate |= {"figure": 0.1234, "bound": 0.4321, "n": 98_765}
    assert all(
        row == ["0.1234", row[1], "98,765", row[3]]
        for row in (cells(card(world, form, record, other))[g["gate"]] for g in other["gates"])
    )


def test_a_world_with_latents_has_their_gates_behind_those_of_eras_and_names_them(made, world, tmp_path):
    known = load_world().facts.presidents
    few = replace(known, presidents={code: known.presidents[code] for code in ("003", "016")})
    facts = replace(world.facts, presidents=few)
    wider = World(facts, (*KINDS, *interview_kinds(facts), *card_kinds(facts)))
    folder, eras = made
    for file in folder.iterdir():
        shutil.copy(file, tmp_path)
    gates = write_card(tmp_path, wider, documents=10)
    names, before = [gate.name for gate in gates], [gate.name for gate in eras]
    assert names[: len(before)] == before
    assert names[len(before) :] == [gate.name for gate in measure_latent_gates(load_model(tmp_path), wider)]
    assert all("president" in name for name in names[len(before) :]) and len(names) > len(before)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert set(names) <= set(cells(text))
    assert " Further hidden states: 2 presidencies. " in text and " president card." in text
    assert "Further hidden states" not in (folder / "README.md").read_text(encoding="utf-8")


def test_the_final_loss_is_the_mean_of_the_last_twentieth():
    losses = [{"step": step, "loss": float(step), "tokens": 0} for step in range(0, 100, 3)]
    assert final_loss({"config": {"steps": 100}, "loss": losses}) == (96 + 99) / 2
    assert final_loss({"config": {"steps": 2}, "loss": losses[:1]}) == 0.0


def test_a_folder_without_a_finished_run_is_refused(tmp_path, world):
    with pytest.raises(AnachronError, match=r"pretraining\.json"):
        write_card(tmp_path, world)


def test_the_shipped_card_belongs_to_the_shipped_weights():
    folder = checkpoint()
    measured = read_json(folder / "gates.json")
    assert measured["weights"] == digest(folder / "model.safetensors")
    assert all(math.isfinite(gate["figure"]) for gate in measured["gates"])
    # these are missed, and the card says so: a checkpoint that passes one, or fails another, has to change these lines
    assert {gate["gate"]: gate["figure"] for gate in measured["gates"] if not gate["passed"]} == {
        "share of 1850s after three turns of evidence": 0.686,
        "share of 1920s after three turns of evidence": 0.8023,
        "calibration error against the exact posterior": 0.0916,
        "speaker inferred from five attributes: values": 0.742,
    }
    text = card(load_world(), shape(load_model("almanac")), read_json(folder / "pretraining.json"), measured)
    assert text == (folder / "README.md").read_text(encoding="utf-8")
    assert json.dumps(measured) and not re.search(r"nan|inf\b", text, re.IGNORECASE)
