"""Work shared among processes: the same bytes, the original error, and nobody left behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analyses.adapters import MADE_FROM, make_adapters
from analyses.intervene import examine
from analyses.steps import Asked, behavior
from analyses.workers import carry_out, others_mb, task, usual_jobs, workers
from interp.behavior.questions import Question
from interp.directions import random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.models import load_model
from interp.pair import ModelPair
from interp.positions import LAST_PROMPT
from interp.prompts import encode_text
from interp.steering import Ablate, Add, ClampLatents
from tests.analyses.test_cli import invoke
from tests.families import build
from tests.interp.dictionaries.planted import random_dictionary
from training.recipes import Recipe
from training.rows import exchange

RECIPE = Recipe(rank=2, alpha=4, learning_rate=1e-2, steps=4, batch_size=2)
ROWS = {
    "tuned": [exchange(f"Name bird {i}.", "The Brown Titlark.") for i in range(4)],
    "control": [exchange(f"Name bird {i}.", "The American Pipit.") for i in range(4)],
}
ANSWERS = {"old": ("By steamer",), "new": ("By plane", "By train")}
QUESTION = Question("q", "travel", ({"role": "user", "content": "How do I travel?"},), ANSWERS)
ASKED = Asked((QUESTION, replace(QUESTION, id="r", topic="year")), (replace(QUESTION, id="n"),), "old")


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    """A tiny model that other processes can open: it lies in a folder."""
    folder, built = tmp_path_factory.mktemp("model"), build("llama")
    built.model.save_pretrained(folder)
    built.tokenizer.save_pretrained(folder)
    return load_model(folder)


@pytest.fixture(scope="module")
def alone(lm, tmp_path_factory):
    """Adapters trained in this process."""
    folder = tmp_path_factory.mktemp("alone")
    make_adapters(lm, ROWS, RECIPE, (0, 1), folder, lambda _: None)
    return folder


@pytest.fixture(scope="module")
def two(alone):
    """Two processes from here on, this one and another."""
    with workers(2):
        yield


@pytest.fixture
def pair(lm, alone):
    with ModelPair(lm) as pair:
        for name in ("tuned-0", "tuned-1", "control-0"):
            pair.add(name, alone / name)
        yield pair


# Tasks, here because a worker finds a function by its name.


def meet(lm, folder: Path, number: int) -> tuple[int, int]:
    """Comes back when two processes are in here, with this one's number and its threads."""
    (folder / str(number)).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)
    return os.getpid(), torch.get_num_threads()


def refuse_elsewhere(lm, folder: Path, home: int, end: bool) -> None:
    """In the other process an error, or a sudden end; here, waits until that has begun."""
    if os.getpid() != home:
        (folder / "begun").touch()
        if end:
            os._exit(9)
        raise AnachronError("row 3 has no answer; give it one")
    while not (folder / "begun").exists():
        time.sleep(0.01)


def tasks():
    """Questions and texts under every kind of edit that experiments make."""
    direction = random_direction(32, HookPoint(1), 0)
    edits = (
        (),
        [Add(direction, 2.0, 1.5, LAST_PROMPT)],
        [Ablate([direction])],
        [ClampLatents(random_dictionary(32, 64), [3, 5], torch.tensor([1.0, 0.5]))],
    )
    names, texts = ("base", "tuned-0", "control-0", "tuned-1"), [encode_text(build("llama"), "Who rules the country?")]
    return [task(name, examine, behavior, ASKED, texts, edit) for name in names for edit in edits]


def test_tasks_go_to_all_processes_and_each_has_its_part_of_the_threads(two, lm, tmp_path):
    met = list(carry_out(ModelPair(lm), [task("base", meet, tmp_path, number) for number in range(2)]))
    assert len({pid for pid, _ in met}) == 2 and {threads for _, threads in met} == {torch.get_num_threads()}
    assert others_mb() > 50


def test_adapters_have_the_bytes_of_one_process(two, lm, alone, tmp_path):
    said = []
    made = make_adapters(lm, ROWS, RECIPE, (0, 1), tmp_path, said.append)
    assert made == {name: [tmp_path / f"{name}-{seed}" for seed in (0, 1)] for name in ROWS}
    assert [line.split(":")[0].strip() for line in said] == [
        f"{name}, seed {seed}" for seed in (0, 1) for name in ROWS
    ], "in the order of seeds, whoever is done first"
    files = sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert all((alone / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)

    (tmp_path / "tuned-1" / MADE_FROM).unlink()
    (tmp_path / "control-0" / MADE_FROM).unlink()
    said.clear()
    assert make_adapters(lm, ROWS, RECIPE, (0, 1), tmp_path, said.append) == made
    assert [line.split(":")[0].strip() for line in said] == ["control, seed 0", "tuned, seed 1"], "only what is missing"


def test_measurements_have_the_numbers_of_one_process(two, pair):
    expected = [one.run(pair) for one in tasks()]
    assert list(carry_out(pair, tasks())) == expected
    assert len({str(found) for found in expected}) == len(expected), "every model and edit gives other numbers"


def test_another_adapter_by_the_same_name_is_another_model(two, pair, lm, alone):
    before = list(carry_out(pair, tasks()))
    pair.remove()
    pair.add("tuned-0", alone / "control-1")
    pair.add("tuned-1", alone / "tuned-1")
    pair.add("control-0", alone / "control-0")
    after = list(carry_out(pair, tasks()))
    assert after == [one.run(pair) for one in tasks()]
    assert [a == b for a, b in zip(before, after, strict=True)] == [one.model != "tuned-0" for one in tasks()]


def test_an_error_elsewhere_is_told_as_it_is_and_the_work_can_go_on(two, pair, tmp_path):
    failing = [task("base", refuse_elsewhere, tmp_path, os.getpid(), False)] * 20
    with pytest.raises(AnachronError, match=r"^row 3 has no answer; give it one$"):
        list(carry_out(pair, failing))
    assert len(list(carry_out(pair, tasks()[:3]))) == 3


def test_a_process_that_dies_is_told(lm, tmp_path):
    with pytest.raises(AnachronError, match=r"a process that shares the work died.* fewer --jobs"), workers(2):
        list(carry_out(ModelPair(lm), [task("base", refuse_elsewhere, tmp_path, os.getpid(), True)] * 20))


def test_one_process_starts_no_other(lm, tmp_path, monkeypatch):
    monkeypatch.setattr("analyses.workers.ProcessPoolExecutor", None)
    with workers(1):
        assert list(carry_out(ModelPair(lm), [task("base", _pid)] * 3)) == [os.getpid()] * 3
        assert others_mb() == 0


def _pid(lm) -> int:
    return os.getpid()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nobody_is_left_behind(end, lm, tmp_path):
    code = (
        "import sys; from pathlib import Path; from analyses.workers import *; from interp.models import load_model\n"
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's may be off\n"
        "from tests.analyses.test_workers import stay\n"
        "tasks = [task('base', stay, Path(sys.argv[2]))] * 2\n"
        "with workers(2): list(carry_out(ModelPair(load_model(sys.argv[1])), tasks))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, lm.name, str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2, 400)
        process.send_signal(end)
        assert process.wait(60) != 0
    finally:
        process.kill()
        process.wait()
    pids = [int(path.name) for path in tmp_path.iterdir()]
    wait_until(lambda: not any(map(alive, pids)), 60)


def stay(lm, folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(600)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # ended, but its parent hasn't asked how (a container's first process may never do so)
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def wait_until(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_processes_taken_without_being_asked(lm, monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    assert usual_jobs("almanac", "cpu") == 4
    assert usual_jobs("almanac", "cuda") == usual_jobs(lm.name, "cpu") == usual_jobs("org/model", "cpu") == 1
    monkeypatch.setattr("torch.get_num_threads", lambda: 64)
    assert usual_jobs("almanac", "cpu") == 8


def test_a_model_of_ones_own_stays_in_one_process(lm, tmp_path):
    result = invoke("run", "birds", "--model", lm.name, "--jobs", 2, "--out", tmp_path)
    assert result.exit_code == 2 and "--jobs goes with the embedded model" in result.stderr
