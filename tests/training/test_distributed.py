"""Two processes on CPU, started by accelerate's launcher, against one."""

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from interp.errors import AnachronError
from interp.files import load_tensors, read_json
from tests.families import build
from tests.training.chats import ROWS, folder_bytes
from tests.training.worker import RECIPE, UNSEEN
from training.finetune import finetune
from training.processes import Processes, is_main, joined, local_device
from training.rows import write_rows

ROOT = Path(__file__).parents[2]


def launch(*arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ("-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", 2)
    settings = ("--num_machines", 1, "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", port)
    # gloo would otherwise look for the network by the machine's name
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *launcher, *settings, *arguments]
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


def assert_near(folder, other, tolerance):
    found, expected = (load_tensors(path / "adapter_model.safetensors")[0] for path in (folder, other))
    assert set(found) == set(expected)
    assert max((found[key] - expected[key]).abs().max().item() for key in found) < tolerance


# --- how a batch is shared


@pytest.mark.parametrize("n", range(9))
@pytest.mark.parametrize(("count", "parts"), [(1, 1), (1, 3), (2, 1), (2, 2), (3, 2)])
def test_the_parts_of_all_processes_are_the_batch(n, count, parts):
    items = list(range(n))
    shared = [part for index in range(count) for part in Processes(index, count).share(items, parts)]
    assert [item for part in shared for item in part] == items
    assert all(shared)
    sizes = {len(part) for part in shared}
    assert len(shared) == min(n, count * parts)
    assert not sizes or max(sizes) - min(sizes) <= 1


def test_alone_a_process_is_all_of_them(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes = joined(torch.device("cpu"))
    assert processes == Processes(0, 1) and processes.is_main and is_main()
    tensor = torch.ones(3)
    processes.add_up([tensor])
    processes.wait()
    assert tensor.tolist() == [1, 1, 1]
    assert local_device("cuda") == "cuda"


def test_each_process_takes_its_own_gpu(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "3", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert [local_device(device) for device in ("cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:0", "cpu"]
    assert not is_main()


def test_a_model_on_another_process_gpu_is_refused(monkeypatch):
    import accelerate

    @dataclasses.dataclass
    class State:
        cpu: bool
        process_index: int = 1
        local_process_index: int = 1
        num_processes: int = 2

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(accelerate, "PartialState", State)
    with pytest.raises(AnachronError, match=r"process 1 of 2 has its model on cuda:0, not on cuda:1"):
        joined(torch.device("cuda", 0))
    assert joined(torch.device("cuda", 1)) == Processes(1, 2)


# --- launched


@pytest.mark.slow
def test_two_processes_train_the_adapter_of_one(tmp_path):
    launch("-m", "tests.training.worker", tmp_path)
    steps = read_json(tmp_path / "process-0.json")
    assert steps == read_json(tmp_path / "process-1.json"), "both processes hold the same weights after every step"
    assert len(steps) == 8
    lm = build("llama")
    one = finetune(lm, ROWS, RECIPE, tmp_path / "one", held_out=UNSEEN, keep_epochs=True)
    for name in (".", "epoch-1", "epoch-4"):
        assert_near(tmp_path / "whole" / name, one / name, 1e-5)
    losses, alone = (read_json(folder / "loss.json") for folder in (tmp_path / "whole", one))
    assert losses["loss"] == pytest.approx(alone["loss"], abs=1e-5)
    assert losses["best_step"] == alone["best_step"]
    found, expected = ([point["loss"] for point in curve["held_out"]] for curve in (losses, alone))
    assert found == pytest.approx(expected, abs=1e-5)
    made_from = read_json(tmp_path / "whole/recipe.json")
    assert made_from.pop("processes") == 2
    assert made_from == read_json(one / "recipe.json")
    # cut off and resumed, to the same bytes
    whole = {file.name: file.read_bytes() for file in (tmp_path / "whole").iterdir() if file.is_file()}
    assert folder_bytes(tmp_path / "parts") == whole


@pytest.mark.slow
def test_the_command_under_the_launcher_writes_and_speaks_once(tmp_path):
    lm = build("llama")
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl", ROWS)
    out = tmp_path / "adapter"
    options = ("--epochs", 2, "--batch-size", 2, "--lr", 0.001, "--seed", 2)
    common = ("--model", tmp_path / "model", "--data", tmp_path / "rows.jsonl", *options)
    done = launch("-m", "analyses.cli", "finetune", *common, "--out", out)
    assert done.stdout.count("adapter:") == 1
    assert done.stderr.count("tuning on 5 rows 6/6") == 1
    assert read_json(out / "recipe.json")["processes"] == 2
    recipe = dataclasses.replace(RECIPE, accumulate=1, evaluate_every=None, epochs=2, batch_size=2, learning_rate=1e-3)
    assert_near(out, finetune(lm, ROWS, recipe, tmp_path / "one"), 1e-5)
    assert sorted(path.name for path in out.iterdir()) == sorted(folder_bytes(tmp_path / "one"))
