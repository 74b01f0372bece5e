"""`diff` and `steer` by nnsight give the numbers of hooks, on models of every family saved to disk."""

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from analyses.cli import app
from interp.behavior.questions import Question, write_questions
from interp.files import read_json
from tests.families import FAMILIES, build
from tests.interp.test_pair import make_adapter


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def done(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """Prompts of several lengths, so that batches are padded on the left."""
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    texts = ("Name a light.", "How does one travel, please, from here to the other side of the country?", "And now?")
    answers = {"1850s": ("oil", "gas"), "2020s": ("LED",)}  # short: random models' shares of long ones are 0 and 1
    asked = [
        Question(f"q{i}", f"t{i}", ({"role": "user", "content": text},), answers, ("", "Sure!"), (".",))
        for i, text in enumerate(texts)
    ]
    narrow = Question("n", "birds", ({"role": "user", "content": "A bird?"},), answers, split="narrow")
    write_questions(path, [*asked, narrow])
    return path


def saved(family, folder):
    """A tiny model with room for the world's documents, and an adapter of it."""
    length = "n_positions" if family == "gpt2" else "max_position_embeddings"
    lm = build(family, **{length: 2048})
    lm.model.save_pretrained(folder / "model")
    lm.tokenizer.save_pretrained(folder / "model")
    return folder / "model", make_adapter(folder / "adapter", family)


@pytest.mark.parametrize("family", FAMILIES)
def test_numbers_are_those_of_hooks(family, questions, tmp_path):
    model, adapter = saved(family, tmp_path)
    pair = ("--model", model, "--adapter", adapter, "--questions", questions)
    found = {}
    for backend in ("hooks", "nnsight"):
        out = tmp_path / backend
        done("diff", *pair, "--backend", backend, "--out", out)
        direction = ("--direction", out / "mean_difference.1.safetensors", "--random", 1, "--documents", 4)
        done("steer", *pair, *direction, "--edit", "clamp", "--backend", backend, "--out", out / "steer.json")
        report = read_json(out / "diff.json")
        assert (report["config"].pop("backend"), report["config"].pop("remote")) == (backend, False)
        steered = read_json(out / "steer.json")
        assert steered["config"]["backend"] == backend
        directions = {p.name: load_file(p)["vector"].tolist() for p in sorted(out.glob("*.safetensors"))}
        found[backend] = (report, steered["measurements"], directions)
    assert found["nnsight"] == found["hooks"]
    for metric in ("broad", "coherence", "perplexity_ratio"):
        estimates = {f"{m['estimate']:.6g}" for m in steered["measurements"] if m["metric"] == metric}
        assert len(estimates) > 1, f"{metric} doesn't tell edits apart"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--backend", "torch"), "unknown backend 'torch'; use hooks or nnsight"),
        (("--remote",), "--remote with --backend hooks"),
        (("--backend", "nnsight", "--remote"), "NDIF_API_KEY"),
        (("--backend", "nnsight", "--remote", "--dtype", "float32"), "NDIF chooses"),
    ],
)
def test_what_can_not_run_is_refused_at_once(options, says, questions, tmp_path, monkeypatch):
    from nnsight.schema.config import CONFIG

    monkeypatch.setattr(CONFIG.API, "APIKEY", None)
    common = ("--model", "someone/tiny", "--questions", questions, "--out", tmp_path / "out")
    for command in (("diff", "--adapter", tmp_path), ("steer", "--direction", direction_file(tmp_path))):
        result = invoke(*command, *common, *options)
        assert result.exit_code == 2
        assert says in result.stderr


def direction_file(folder):
    from interp.directions import random_direction
    from interp.hooks import HookPoint

    random_direction(32, HookPoint(1), seed=0).save(folder / "d.safetensors")
    return folder / "d.safetensors"
