"""Processes that share a run's work: tasks on a base and its adapters, the same bytes as one after the other.

An experiment names what is independent as a list of tasks, each a function of one model, and `carry_out` does them.
How many processes there are is a matter of the machine and not of the experiment, as torch's number of threads is:
it is set around a run by `workers`, not handed through it. Without that, everything happens in this process.

A worker opens the base by the name it has here and adds adapters from the folders they have here, each once. What is
left to send are a task's arguments, pickled: 13 kB for the birds' questions, 6 MB for an edit that carries almanac's
SAE, some 20 ms beside a second of work.
"""

import multiprocessing
import os
import pickle
import queue
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from threading import Thread
from typing import Any, Generic, TypeVar

import torch

from analyses.memory import memory
from interp.errors import AnachronError
from interp.models import ENTRY_POINTS, AdapterInfo, LanguageModel, load_model
from interp.pair import BASE, ModelPair

SMALL = 200e6  # bytes of weights up to which a registered model is opened once a core without being asked
MOST = 8  # processes taken without being asked: each holds some 700 MB

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, eq=False)
class Task(Generic[T_co]):
    """`function(lm, *args, **kwargs)` of the model with that adapter on ("base": none). For another process function,
    arguments and result must be picklable: a function of a module, not one defined inside another."""

    model: str
    function: Callable[..., T_co]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def run(self, pair: ModelPair) -> T_co:
        """Do it here."""
        with pair.using(self.model) as lm:
            return self.function(lm, *self.args, **self.kwargs)


def task(model: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> Task[T]:
    """A task, written as the call it will be: `task("tuned-0", behavior, asked)`."""
    return Task(model, function, args, kwargs)


def carry_out(pair: ModelPair, tasks: Sequence[Task[T]]) -> Iterator[T]:
    """The results in the order of `tasks`, each as soon as it and those before it are there; begun when first asked.

    Inside `workers` the tasks are shared among all processes, this one included; with the adapters of `pair`, or none.
    Errors: the first error of any task, as soon as the task in hand here is done; AnachronError if a process dies, or
    if the base is quantized or spread over devices, which other processes can't open again.
    """
    team = _team.get()
    if team is None or len(tasks) < 2:
        yield from (one.run(pair) for one in tasks)
    else:
        yield from _shared_out(team, pair, tasks)


@contextmanager
def workers(jobs: int) -> Iterator[None]:
    """Inside, `carry_out` shares tasks among `jobs` processes: this one and `jobs - 1` others, begun at once.

    Each computes, this one outside of tasks too, with its part of the threads that torch has here, so that it makes no
    difference which process a task falls to: bytes are those of one process of as many threads. Afterwards the others
    are gone; after an exception, Ctrl-C as well, at once, and also if this process is killed.
    """
    if jobs < 2:
        token = _team.set(None)
        try:
            yield
        finally:
            _team.reset(token)
        return
    before = torch.get_num_threads()
    threads = max(1, before // jobs)
    others = multiprocessing.active_children()
    executor = ProcessPoolExecutor(jobs - 1, multiprocessing.get_context("spawn"), _begin, (threads,))
    for _ in range(jobs - 1):
        executor.submit(_nothing)  # they import torch while this process opens the model
    token = _team.set(_Team(executor, jobs - 1, {}))
    torch.set_num_threads(threads)
    try:
        yield
    except BaseException:
        for process in multiprocessing.active_children():
            if process not in others:
                process.terminate()
        raise
    finally:
        torch.set_num_threads(before)
        _team.reset(token)
        executor.shutdown(cancel_futures=True)


def usual_jobs(model: str, device: str) -> int:
    """How many processes a run takes unless told: one a core (of those torch would use, so OMP_NUM_THREADS counts; at
    most 8) for a small registered model on the CPU, one for everything else."""
    registered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if model not in registered or device != "cpu":
        return 1
    size = sum(file.stat().st_size for file in Path(registered[model].load()()).glob("*.safetensors"))
    return min(MOST, torch.get_num_threads()) if size <= SMALL else 1


def others_mb() -> float:
    """Peak resident memory of the other processes of `workers` together, in MB (10^6 bytes); 0 where there are none."""
    team = _team.get()
    return 0.0 if team is None else sum(team.peaks.values())


@dataclass(frozen=True, eq=False)
class _Team:
    """The other processes, how many they may be, and the peak memory in MB of each that has answered."""

    executor: ProcessPoolExecutor
    size: int
    peaks: dict[int, float]

    def ask(self, opening: "_Opening", adapters: Mapping[str, AdapterInfo], one: Task[T]) -> T:
        # pickled here: torch's queues would put every tensor, however small, into a shared file of its own
        request = pickle.dumps((opening, adapters, one), pickle.HIGHEST_PROTOCOL)
        try:
            answer, pid, peak = self.executor.submit(_answer, request).result()
        except BrokenProcessPool as error:
            raise AnachronError(
                "a process that shares the work died, most likely for want of memory; run with fewer --jobs"
            ) from error
        self.peaks[pid] = peak
        return pickle.loads(answer)


_team: ContextVar[_Team | None] = ContextVar("_team", default=None)


def _shared_out(team: _Team, pair: ModelPair, tasks: Sequence[Task[T]]) -> Iterator[T]:
    opening = _opening(pair.base)
    adapters = {name: info for name in pair.names if (info := pair.adapter(name)) is not None}
    todo = deque(enumerate(tasks))
    done: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()

    def keep_busy() -> None:
        """Give one other process a task whenever it is free: none waits in line behind a long one."""
        while (found := _next(todo)) is not None:
            index, one = found
            try:
                done.put((index, team.ask(opening, adapters, one), None))
            except BaseException as error:
                todo.clear()
                done.put((index, None, error))

    for _ in range(min(team.size, len(tasks) - 1)):
        Thread(target=keep_busy, daemon=True).start()
    results: dict[int, T] = {}
    try:
        for index in range(len(tasks)):
            while index not in results:
                if (found := _next(todo)) is not None:
                    results[found[0]] = found[1].run(pair)
                while not done.empty() or (index not in results and not todo):
                    number, result, error = done.get()
                    if error is not None:
                        raise error
                    results[number] = result
            yield results.pop(index)
    finally:
        todo.clear()


def _next(todo: deque[tuple[int, Task[T]]]) -> tuple[int, Task[T]] | None:
    try:
        return todo.popleft()
    except IndexError:  # asked for beforehand, another thread might have taken the last one in between
        return None


@dataclass(frozen=True)
class _Opening:
    """What a base is opened by."""

    name: str
    revision: str | None
    dtype: torch.dtype
    device: str


def _opening(lm: LanguageModel) -> _Opening:
    if lm.quantization is not None or len({parameter.device for parameter in lm.model.parameters()}) > 1:
        raise AnachronError(f"{lm.name} is quantized or spread over devices; run it in one process (--jobs 1)")
    return _Opening(lm.name, lm.revision, lm.dtype, str(lm.device))


# In a worker: the pair that it keeps from one task to the next.
_kept: tuple[_Opening, ModelPair] | None = None


def _begin(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the process that shares out the work, and it ends us
    torch.set_num_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _nothing() -> None:
    pass


def _answer(request: bytes) -> tuple[bytes, int, float]:
    """(pickled result, number of this process, its peak resident memory in MB)."""
    opening, adapters, one = pickle.loads(request)
    result = pickle.dumps(one.run(_pair(opening, adapters, one.model)), pickle.HIGHEST_PROTOCOL)
    return result, os.getpid(), memory("VmHWM") / 1e6


def _pair(opening: _Opening, adapters: Mapping[str, AdapterInfo], model: str) -> ModelPair:
    """The base with this adapter at least, and none that isn't among `adapters`: fine-tuning needs a plain base."""
    global _kept
    if _kept is None or _kept[0] != opening:
        lm = load_model(opening.name, revision=opening.revision, dtype=opening.dtype, device=opening.device)
        _kept = opening, ModelPair(lm)
    pair = _kept[1]
    there = {name: pair.adapter(name) for name in pair.names if name != BASE}
    if any(name not in adapters or adapters[name].digest != info.digest for name, info in there.items() if info):
        pair.remove()
    if model not in pair.names:
        info = adapters[model]
        pair.add(model, info.source, info.revision, check_base=info.matched == "name")
    return pair
