"""Several experiments at once, each in a process of its own with one thread: same bytes as one after the other."""

import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from interp.errors import AnachronError

LONGEST_FIRST = ("persona", "dishes", "presidents", "birds", "cities", "terminator")
"""Begun in this order; one that isn't here, a new one, before them all, since nothing is known of it."""
_TIME = re.compile(r"^\s*[\d.]+ s  ")  # what `analyses.progress` puts before a line


def run_beside(
    names: Sequence[str], options: Mapping[str, Any], out: Path, say: Callable[[str], None], jobs: int
) -> None:
    """Run each experiment by `anachron run NAME` into `out/NAME`, `jobs` of them at a time; `say` is told their lines.

    Errors: AnachronError with the last lines of the first that fails; those that run are stopped, what they made stays.
    """
    ordered = sorted(names, key=lambda name: LONGEST_FIRST.index(name) if name in LONGEST_FIRST else -1)
    running: dict[str, subprocess.Popen[str]] = {}
    stopped = False

    def one(name: str) -> tuple[str, int, str]:
        nonlocal stopped
        if stopped:
            return name, 0, ""
        command = [sys.executable, "-m", "analyses.cli", "run", name, "--out", str(out / name), *_flags(options)]
        command += ["--jobs", "1"]  # its cores are taken by the others
        # one thread each, and the code that runs here, wherever this was started
        paths = os.pathsep.join(path for path in (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")) if path)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            running[name] = process
            if stopped:  # while it was being started
                process.terminate()
            last: deque[str] = deque(maxlen=5)
            assert process.stderr is not None  # it was asked for
            for line in process.stderr:
                text = _TIME.sub("", line.rstrip()).strip()
                if text:
                    last.append(text)
                    say(f"{name}: {text}")
        stopped = stopped or process.returncode != 0  # none is begun after a failure
        return name, process.returncode, "; ".join(last)

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one, name) for name in ordered]
        try:
            for done in as_completed(futures):
                name, code, last = done.result()
                if code:
                    raise AnachronError(f"{name} failed ({last}); mend it and run all again, it goes on from here")
        except BaseException:  # Ctrl-C as well; here, since leaving the pool waits for its threads
            stopped = True
            _stop(running)
            raise


def _stop(running: Mapping[str, "subprocess.Popen[str]"]) -> None:
    for process in running.values():
        if process.poll() is None:
            process.terminate()


def _flags(options: Mapping[str, Any]) -> list[str]:
    flags: list[str] = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        flag = f"--{name.replace('_', '-')}"
        values = value if isinstance(value, tuple) else (value,)
        flags += [flag] if value is True else [part for one in values for part in (flag, str(one))]
    return flags
