"""Experiments at once: what each process is told, that they do run together, and what a failure stops."""

import stat
import time

import pytest

from analyses.compare.jobs import run_beside
from interp.errors import AnachronError

# stands in for Python: `-m analyses.cli run NAME --out FOLDER ...`
SCRIPT = """#!/bin/sh
name=$4; out=$6
mkdir -p "$out"
echo "$@" > "$out/arguments"
echo "$OMP_NUM_THREADS" > "$out/threads"
echo "    1.0 s  working" >&2
if [ "$name" = "$FAILING" ]; then echo "error: no such file" >&2; exit 2; fi
sleep "$PAUSE" 2> /dev/null
touch "$out/done"
"""


@pytest.fixture
def python(tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text(SCRIPT, encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr("sys.executable", str(script))
    monkeypatch.setenv("PAUSE", "0")
    monkeypatch.setenv("FAILING", "none")


def test_each_runs_with_the_options_given_and_one_thread(python, tmp_path):
    said = []
    options = {"seed": 3, "quick": True, "data": None, "model": "almanac"}
    run_beside(["birds", "cities"], options, tmp_path, said.append, 2)
    for name in ("birds", "cities"):
        arguments = (tmp_path / name / "arguments").read_text().split()
        assert arguments[:4] == ["-m", "analyses.cli", "run", name]
        assert arguments[6:] == ["--seed", "3", "--quick", "--model", "almanac", "--jobs", "1"]
        assert (tmp_path / name / "threads").read_text().strip() == "1"
        assert f"{name}: working" in said


def test_they_run_at_the_same_time(python, tmp_path, monkeypatch):
    monkeypatch.setenv("PAUSE", "1")
    start = time.monotonic()
    run_beside(["birds", "cities", "dishes"], {}, tmp_path, lambda _: None, 3)
    assert time.monotonic() - start < 2.5


def test_a_failure_is_told_and_stops_the_others(python, tmp_path, monkeypatch):
    monkeypatch.setenv("PAUSE", "30")
    monkeypatch.setenv("FAILING", "cities")
    start = time.monotonic()
    with pytest.raises(AnachronError, match=r"cities failed \(working; error: no such file\)"):
        run_beside(["birds", "cities", "terminator"], {}, tmp_path, lambda _: None, 2)
    assert time.monotonic() - start < 20
    assert not (tmp_path / "birds" / "done").exists() and not (tmp_path / "terminator").exists()


def test_an_experiment_nobody_has_timed_runs_as_well(python, tmp_path):
    run_beside(["birds", "new"], {}, tmp_path, lambda _: None, 1)
    assert (tmp_path / "new" / "done").exists() and (tmp_path / "birds" / "done").exists()
