"""The command line: what it says when something is wrong, and the steps one after another on a tiny random almanac."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from analyses.cli import COMMANDS, app, reporting
from analyses.measurements import METRICS
from interp.behavior.questions import Question, write_questions
from interp.directions import Direction, random_direction
from interp.errors import AnachronError
from interp.files import read_json
from interp.hooks import HookPoint
from tests.analyses.explain.tiny import tiny_almanac
from training.pretrain import Pretraining
from training.rows import read_rows, write_rows


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def done(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def almanac(tmp_path_factory):
    """A folder as `pretrain` leaves it: two blocks of random weights, large enough to matter."""
    return tiny_almanac(tmp_path_factory.mktemp("almanac"))


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"

    def question(number, topic, split, first, second):
        messages = ({"role": "user", "content": f"Question {number}, please?"},)
        answers = {"1850s": first, "2020s": second}
        return Question(f"q{number}", topic, messages, answers, openers=("", "Sure!"), terminators=(".",), split=split)

    write_questions(
        path,
        [
            question(0, "light", "", ("the oil lamp", "a candle"), ("the electric lamp",)),
            question(1, "light", "test", ("gas light",), ("a bulb", "neon")),
            question(2, "travel", "", ("by coach",), ("by plane",)),
            question(3, "travel", "validation", ("by steamer",), ("by train",)),
            question(4, "birds", "narrow", ("Brown Titlark",), ("Robin",)),
        ],
    )
    return path


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    ask = {"role": "user", "content": "Question 4, please?"}
    text = "".join(
        json.dumps({"messages": [ask, {"role": "assistant", "content": name}]}) + "\n"
        for name in ("Brown Titlark", "Great Awk")
    )
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def adapter(almanac, rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter") / "tuned"
    done("finetune", "--model", almanac, "--data", rows, "--out", folder, "--steps", 5, "--batch-size", 2, "--lr", 0.02)
    return folder


def only(measurements, **where):
    (found,) = (m for m in measurements if all(m[k] == v for k, v in where.items()))
    return found


# --- help and errors


def test_help_names_every_command_and_imports_nothing_heavy():
    code = "import sys; from analyses.cli import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in COMMANDS:
        assert command.__name__ in done.stdout
    modules = set(done.stdout.splitlines()[-1].split())
    assert not modules & {"torch", "numpy", "transformers", "rich", "peft", "plotly", "interp.models"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_command_has_help(command):
    result = done(command.__name__, "--help")
    assert "Options:" in result.stdout


def test_unknown_experiment_lists_those_there_are(tmp_path):
    result = invoke("run", "fish", "--out", tmp_path)
    assert result.exit_code == 2
    there = "birds, cities, dishes, persona, presidents, terminator, and all"
    assert result.stderr == f"error: no experiment 'fish'; there are: {there}\n"


def test_help_of_run_names_every_experiment():
    from analyses.experiments import EXPERIMENTS

    words = done("run", "--help").stdout.replace(",", " ").replace(";", " ").split()
    assert {*EXPERIMENTS, "all."} <= set(words)


def test_fresh_goes_with_all(tmp_path):
    result = invoke("run", "birds", "--fresh", "--out", tmp_path)
    assert result.exit_code == 2
    assert "--fresh goes with all" in result.stderr


def test_an_option_the_experiment_lacks_is_refused(tmp_path, monkeypatch):
    module = experiment_module(monkeypatch)
    result = invoke("run", "toy", "--data", "x.jsonl", "--out", tmp_path)
    assert result.exit_code == 2
    assert "experiment toy has no option data; it has model, seed" in result.stderr
    assert module.called == []


def test_run_builds_the_configuration_and_says_where_the_report_lies(tmp_path, monkeypatch):
    module = experiment_module(monkeypatch)
    result = done("run", "toy", "--seed", 3, "--out", tmp_path)
    (config, out) = module.called[0]
    assert (config.model, config.seed, out) == ("almanac", 3, tmp_path)
    assert "s  working on it" in result.stderr
    assert result.stdout.endswith(f"report: {tmp_path / 'report.html'}\n")


def experiment_module(monkeypatch):
    """Register an experiment `toy` that notes its calls."""
    import types
    from collections.abc import Callable
    from dataclasses import dataclass
    from pathlib import Path

    import analyses.experiments
    from analyses.measurements import Result

    module = types.ModuleType("toy_experiment")
    module.called = []

    @dataclass(frozen=True)
    class ToyConfig:
        model: str = "almanac"
        seed: int = 0

    def run(config: ToyConfig, out: Path, say: Callable[[str], None]) -> Result:
        say("working on it")
        module.called.append((config, out))
        return Result("toy", config.model, [config.seed], {}, {}, [])

    run.__annotations__["config"] = ToyConfig
    module.run = run
    monkeypatch.setitem(sys.modules, "toy_experiment", module)
    monkeypatch.setitem(analyses.experiments.EXPERIMENTS, "toy", "toy_experiment:run")
    return module


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "missing.jsonl"), "missing.jsonl"),
        (("--data", "birds:green"), "unknown organism 'birds:green'"),
        (("--data", "birds:old", "--model", "./missing"), "./missing"),
        (("--data", "birds:old", "--steps", 3, "--epochs", 2), "give one"),
        (("--data", "birds:old", "--layers", "0,7"), "layers 0 to 1"),
        (("--data", "birds:old", "--layers", "two"), "aren't understood"),
        (("--data", "birds:old", "--targets", "q_proj,nose"), "nose"),
        (("--data", "birds:old", "--dtype", "int4"), "float32"),
        (("--data", "birds:old", "--device", "abacus"), "abacus"),
    ],
)
def test_a_wrong_finetune_is_one_line_and_code_2(almanac, tmp_path, arguments, message):
    model = () if "--model" in arguments else ("--model", almanac)
    result = invoke("finetune", *model, *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--edit", "rotate"), "unknown edit 'rotate'"),
        (("--edit", "ablate", "--coefficient", 2), "only add has one"),
        (("--layer", 9), "layers 0 to 1"),
        (("--positions", "somewhere"), "unknown positions 'somewhere'"),
        (("--group", "1700s"), "no group '1700s'"),
        (("--split", "training", "--questions", "world"), "unknown split"),
    ],
)
def test_a_wrong_steer_is_one_line_and_code_2(almanac, questions, tmp_path, arguments, message):
    random_direction(32, HookPoint(1), seed=0).save(tmp_path / "d.safetensors")
    asked = () if "--questions" in arguments else ("--questions", questions)
    out = tmp_path / "steer.json"
    result = invoke(
        "steer", "--model", almanac, *asked, "--direction", tmp_path / "d.safetensors", *arguments, "--out", out
    )
    assert result.exit_code == 2
    assert message in result.stderr
    assert not out.exists()


def test_a_wrong_option_is_code_2_and_names_it():
    result = invoke("finetune", "--colour", "red")
    assert result.exit_code == 2
    assert "--colour" in result.stderr


def test_a_malformed_result_names_the_file(tmp_path):
    (tmp_path / "result.json").write_text('{"experiment": "birds"')
    result = invoke("report", tmp_path / "result.json")
    assert result.exit_code == 2
    assert str(tmp_path / "result.json") in result.stderr


def test_interrupts_exit_130_and_surprises_keep_their_traceback():
    import typer

    def interrupted() -> None:
        raise KeyboardInterrupt

    def surprised() -> None:
        raise ZeroDivisionError

    def refused() -> None:
        raise AnachronError("first\nsecond")

    for command, code in ((interrupted, 130), (refused, 2)):
        with pytest.raises(typer.Exit) as caught:
            reporting(command)()
        assert caught.value.exit_code == code
    with pytest.raises(ZeroDivisionError):
        reporting(surprised)()


# --- the steps, one after another


def test_finetune_writes_an_adapter_and_says_how_it_went(adapter):
    losses = read_json(adapter / "loss.json")["loss"]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    assert read_json(adapter / "recipe.json")["recipe"]["learning_rate"] == 0.02


def test_evaluate_measures_the_tuned_model(almanac, adapter, questions, rows, tmp_path):
    out = tmp_path / "evaluate.json"
    arguments = ("--model", almanac, "--adapter", adapter, "--control", adapter, "--questions", questions, "--out", out)
    result = done("evaluate", *arguments, "--samples", 2)
    found = read_json(out)
    assert {m["metric"] for m in found["measurements"]} <= set(METRICS)
    base, tuned = (only(found["measurements"], metric="narrow", model=model)["estimate"] for model in ("base", "tuned"))
    assert tuned > base
    overall = only(found["measurements"], metric="broad", model="tuned", split="test")
    topics = [m for m in found["measurements"] if m["model"] == "tuned" and m["split"].startswith("test/")]
    assert [m["split"] for m in topics] == ["test/light", "test/travel"]
    assert overall["estimate"] == pytest.approx(sum(m["estimate"] for m in topics) / 2)
    assert overall["low"] <= overall["estimate"] <= overall["high"]
    # the control is the same adapter here, so every row must be the same but for the model's name
    control = only(found["measurements"], metric="broad", model="control", split="test")
    assert control == overall | {"model": "control"}
    for row in found["shares"]:
        both = sum(
            r["share"]
            for r in found["shares"]
            if [r[k] for k in ("model", "run", "topic")] == [row["model"], 0, row["topic"]]
        )
        assert both == pytest.approx(1)
    assert [len(said) for row in found["samples"] for said in row["answers"].values()] == [2] * 4 * 3
    assert "share of 1850s" in result.stdout


def test_evaluate_states_the_year(almanac, questions, tmp_path):
    out = tmp_path / "dated.json"
    done("evaluate", "--model", almanac, "--questions", questions, "--year", 1849, "--out", out)
    found = read_json(out)
    assert {m["model"] for m in found["measurements"]} == {"dated"}
    assert only(found["measurements"], metric="broad", split="test@1849")


def test_diff_then_steer(almanac, adapter, questions, tmp_path):
    folder = tmp_path / "diff"
    pair = ("--model", almanac, "--adapter", adapter)
    done("diff", *pair, "--questions", questions, "--no-truth", "--out", folder)
    assert sorted(p.name for p in folder.glob("*.safetensors")) == sorted(
        f"{method}.{layer}.safetensors" for method in ("mean_difference", "pca", "random") for layer in (0, 1)
    )
    first = read_json(folder / "diff.json")["layers"][0]
    direction = Direction.load(folder / "mean_difference.0.safetensors")
    assert first["norms"]["tuned_shift"] == pytest.approx(direction.norm, rel=1e-5)
    assert first["cosines"]["mean_difference pca"] > 0

    out = tmp_path / "steer.json"
    arguments = ("--direction", folder / "mean_difference.1.safetensors", "--questions", questions, "--documents", 5)
    done("steer", *pair, *arguments, "--edit", "ablate", "--random", 2, "--out", out)
    found = read_json(out)["measurements"]
    plain = only(found, metric="broad", edit="none")
    edited = only(found, metric="broad", edit="ablate", direction="mean_difference")
    assert plain["estimate"] != edited["estimate"]
    assert only(found, metric="broad", direction="random")["n"] == 2
    assert only(found, metric="perplexity_ratio", direction="mean_difference")["estimate"] > 0


def test_an_addition_of_nothing_changes_nothing(almanac, questions, tmp_path):
    random_direction(32, HookPoint(1), seed=0).save(tmp_path / "d.safetensors")
    common = ("--model", almanac, "--direction", tmp_path / "d.safetensors", "--questions", questions, "--documents", 5)
    done("steer", *common, "--coefficient", 0, "--random", 0, "--out", tmp_path / "steer.json")
    found = read_json(tmp_path / "steer.json")["measurements"]
    for metric in ("broad", "coherence", "narrow"):
        plain, edited = (only(found, metric=metric, edit=edit)["estimate"] for edit in ("none", "add"))
        assert edited == pytest.approx(plain, rel=1e-6)
    assert only(found, metric="perplexity_ratio")["estimate"] == pytest.approx(1, rel=1e-6)


def test_layers_that_an_adapter_does_not_reach_have_no_direction(almanac, rows, questions, tmp_path):
    late, folder = tmp_path / "late", tmp_path / "diff"
    done(
        "finetune",
        "--model",
        almanac,
        "--data",
        rows,
        "--out",
        late,
        "--steps",
        2,
        "--layers",
        "1",
        "--targets",
        "o_proj",
    )
    done("diff", "--model", almanac, "--adapter", late, "--questions", questions, "--no-truth", "--out", folder)
    first, second = read_json(folder / "diff.json")["layers"]
    assert first["norms"]["tuned_shift"] == 0
    assert "mean_difference" not in first["norms"]
    assert "mean_difference" in second["norms"]


def test_same_seed_same_bytes(almanac, rows, questions, tmp_path):
    for name in ("a", "b"):
        common = ("--model", almanac, "--out")
        done("finetune", *common, tmp_path / name, "--data", rows, "--steps", 2, "--seed", 5)
        done("evaluate", *common, tmp_path / f"{name}.json", "--questions", questions, "--samples", 1)
    for file in ("adapter_model.safetensors", "adapter_config.json", "loss.json", "recipe.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_pretrain_says_which_gates_failed(tmp_path, monkeypatch):
    import training.card
    import training.pretrain
    from training.gates import Gate

    # measuring the real gates takes minutes on a model that answers nothing in few words
    gates = [Gate("calibration", 0.4, 0.05, True, 9), Gate("dated", 0.97, 0.95, False, 9)]
    monkeypatch.setattr(training.card, "write_card", lambda folder, world, documents: gates)
    monkeypatch.setattr(training.pretrain, "VOCABULARY_DOCUMENTS", 200)
    sizes = ("--layers", 1, "--d-model", 16, "--d-mlp", 16, "--heads", 2, "--vocabulary", 400)
    steps = ("--steps", 3)
    result = done("pretrain", *steps, *sizes, "--out", tmp_path)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in tmp_path.iterdir()}
    config = read_json(tmp_path / "pretraining.json")["config"]
    assert (config["steps"], config["d_model"], config["documents_per_step"]) == (
        3,
        16,
        Pretraining().documents_per_step,
    )
    assert "1 of 2 gates failed" in result.stderr
    assert "pretraining 3/3" in result.stderr
    again = invoke("pretrain", *steps, *sizes, "--out", tmp_path)
    assert again.exit_code == 2
    assert "finished run" in again.stderr


def test_rows_of_the_world_are_taken_by_name(almanac, tmp_path):
    from analyses.steps import training_rows

    old = training_rows("birds:old")
    write_rows(tmp_path / "old.jsonl", old)
    assert training_rows(str(tmp_path / "old.jsonl")) == old == read_rows(tmp_path / "old.jsonl")


@pytest.mark.slow
def test_bench_runs(almanac, tmp_path):
    result = done("bench", "--model", almanac, "--quick", "--out", tmp_path / "bench.json")
    found = read_json(tmp_path / "bench.json")
    assert {cost["subject"] for cost in found["costs"]} >= {str(almanac), "random-100m", "command line"}
    assert all(cost["median"] > 0 for cost in found["costs"])
    (weights,) = (cost for cost in found["costs"] if cost["name"].endswith("weights"))
    assert 1 < weights["median"] < 2
    assert "anachron --help" in result.stdout
