"""`anachron sae train` and `anachron sae evaluate`, on a tiny model and a file of texts, and the cost of encoding."""

import json

import pytest
import torch
from typer.testing import CliRunner

from analyses.bench import sae as bench
from analyses.cli import app
from interp.capture import capture
from interp.dictionaries.formats import load_dictionary
from interp.dictionaries.weights import Sae
from interp.files import read_json
from interp.hooks import HookPoint
from interp.models import load_model
from interp.positions import ALL
from tests.families import CORPUS, build
from training.corpus import read_texts


def done(*arguments):
    result = CliRunner().invoke(app, ["sae", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    lm = build("llama")
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": sentence}) + "\n" for text in CORPUS for sentence in text.split(". ")))
    return path


@pytest.fixture(scope="module")
def trained(model, texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("sae")
    sizes = ("--d-sae", 48, "--k", 4, "--steps", 40, "--batch-size", 64, "--learning-rate", 0.005)
    where = ("--model", model, "--corpus", texts, "--point", "1.mlp_out", "--documents-per-block", 20)
    done("train", "--out", out, *where, *sizes, "--architecture", "matryoshka", "--widths", "8,16")
    return out


def test_train_writes_an_sae_of_the_model(model, trained):
    sae = load_dictionary(trained, lm=load_model(model))
    assert isinstance(sae, Sae)
    assert (sae.d_sae, sae.point) == (48, HookPoint(1, "mlp_out"))
    about = read_json(trained / "training.json")
    assert about["recipe"]["widths"] == [8, 16] and about["corpus"]["corpus"] == "texts.jsonl"
    assert about["model"]["name"] == model.name, "the path stays on this machine"


def test_evaluate_writes_figures_that_fit_together(model, texts, trained, tmp_path):
    out = tmp_path / "evaluation.json"
    shown = done("evaluate", "--sae", trained, "--model", model, "--corpus", texts, "--out", out).stdout
    found = read_json(out)
    results = found["results"]
    assert 0 < results["fvu"] < 1 and 1 < results["l0"] < 12 and 0 <= results["dead"] < 1
    loss = results["loss"]
    assert loss["with_error"] == loss["plain"] != loss["spliced"]
    assert loss["recovered"] == (loss["zeroed"] - loss["spliced"]) / (loss["zeroed"] - loss["plain"])
    assert sum(p["n"] for p in results["positions"]) == results["n"]
    assert found["sae"]["digest"] and found["config"]["documents"] > 5
    assert "loss recovered" in shown


def test_widths_that_are_no_numbers_are_refused(tmp_path):
    result = CliRunner().invoke(app, ["sae", "train", "--out", str(tmp_path), "--widths", "8,x"])
    assert result.exit_code == 2 and "widths '8,x'" in result.stderr


def test_the_bench_encodes_what_sae_lens_encodes():
    import torch

    (size,) = bench.QUICK
    sae, x = bench._sae(*size)
    with torch.no_grad():
        f = bench._by_sae_lens(sae).encode(x)
    torch.testing.assert_close(sae.encode(x), f)
    assert (f > 0).sum(dim=1).float().mean() == pytest.approx(bench.L0, rel=0.2)
    ratios = bench.sae_encode(repeats=1, quick=True)
    assert [ratio.target for ratio in ratios] == [1.0, 1.2]
    assert all(ratio.median > 0 for ratio in ratios)


def test_prune_leaves_out_what_is_never_active(model, texts, trained, tmp_path):
    lm = load_model(model)
    where = ("--model", model, "--corpus", texts, "--documents", 40)
    shown = done("prune", "--sae", trained, "--out", tmp_path / "few", *where, "--stored", "float32").stdout
    whole, part = load_dictionary(trained, lm=lm), load_dictionary(tmp_path / "few", lm=lm)
    rows = capture(lm, read_texts(lm, texts)[:40], [whole.point], ALL)[whole.point]
    active = whole.encode(rows).gt(0).any(dim=0)
    assert f"{int(active.sum())} of 48 latents are left" in " ".join(shown.split())
    assert part.d_sae == int(active.sum()) and part.point == whole.point
    some = rows[:50]  # of the same texts, so nothing is lost there
    torch.testing.assert_close(part.decode(part.encode(some)), whole.decode(whole.encode(some)), rtol=1e-3, atol=1e-3)
    about = read_json(tmp_path / "few" / "pruned.json")
    assert about["from"]["d_sae"] == 48 and about["left"] == part.d_sae
    refused = CliRunner().invoke(app, ["sae", "prune", "--sae", str(trained), "--out", "x", "--stored", "int8"])
    assert refused.exit_code == 2 and "use float16 or float32" in refused.stderr
