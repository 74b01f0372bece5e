"""What is measured. Each cost is a function of a model that returns ratios."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from analyses.bench.subjects import prompts
from analyses.bench.timing import Ratio, in_turn, summarise
from interp.behavior.sampling import generate
from interp.capture import capture, capture_pair
from interp.directions import random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.pair import ModelPair
from interp.positions import ALL, ANSWER, LAST_PROMPT, Positions
from interp.prompts import batches
from interp.remote import through_nnsight
from interp.steering import Add

PAIR = ("base", "tuned")


def half_depth(lm: LanguageModel) -> HookPoint:
    """Where half of the blocks have run (of an odd number, the larger half)."""
    return HookPoint((lm.n_layers - 1) // 2)


def pair_capture(lm: LanguageModel, adapter: Path, n: int, repeats: int) -> list[Ratio]:
    """Residual streams of base and tuned at the last prompt token against two bare forwards of the same batches.

    The bare forwards compute the logits of the last token only, so that the ratio owes nothing to the unembedding.
    """
    encoded = prompts(lm, n)
    points = [HookPoint(layer) for layer in range(lm.n_layers)]
    with ModelPair(lm) as pair:
        pair.add("tuned", adapter)
        ready = [batch.inputs for _, batch in batches(encoded, lm.pad_id)]

        def bare() -> None:
            for name in PAIR:
                with pair.using(name) as member, torch.no_grad():
                    for inputs in ready:
                        member.model(**inputs, use_cache=False, logits_to_keep=1)

        seconds = in_turn(
            {
                "bare": bare,
                "middle": lambda: capture_pair(pair, PAIR, encoded, [half_depth(lm)], LAST_PROMPT),
                "all": lambda: capture_pair(pair, PAIR, encoded, points, LAST_PROMPT),
            },
            repeats,
        )
    what = "pair capture, {} / two bare forwards"
    return [
        summarise(what.format("half depth"), lm.name, seconds["middle"], seconds["bare"], target=0.75),
        summarise(what.format("all layers"), lm.name, seconds["all"], seconds["bare"], target=1.05),
    ]


def steered_generation(lm: LanguageModel, n: int, new_tokens: int, repeats: int) -> list[Ratio]:
    """Greedy generation under `Add` at half depth against the same without an edit, and against `model.generate`.

    The coefficient is 0, so that all write the same tokens, and as many; the edit's arithmetic is carried out
    nevertheless.
    """
    encoded = prompts(lm, n)
    point = half_depth(lm)
    direction = random_direction(lm.d_model, point, seed=0)
    (batch,) = (batch for _, batch in batches(encoded, lm.pad_id, max_tokens=10**9))
    stops = sorted({int(t) for t in (lm.tokenizer.eos_token_id,) if t is not None})

    def ours(positions: Positions | None) -> list[str]:
        edits = [] if positions is None else [Add(direction, 0.0, 1.0, positions)]
        return generate(lm, encoded, max_new_tokens=new_tokens, temperature=0.0, edits=edits, max_tokens=10**9)

    def bare() -> torch.Tensor:
        with torch.no_grad():
            return lm.model.generate(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                max_new_tokens=new_tokens,
                do_sample=False,
                eos_token_id=stops or None,
                pad_token_id=lm.pad_id,
            )

    seconds = in_turn(
        {"plain": lambda: ours(None), "all": lambda: ours(ALL), "generated": lambda: ours(ANSWER), "bare": bare},
        repeats,
    )
    sides = (("all positions / unsteered", "all", "plain"), ("new tokens / unsteered", "generated", "plain"))
    return [
        summarise(f"steered generation, {what}", lm.name, seconds[a], seconds[b], target=1.05)
        for what, a, b in (*sides, ("all positions / model.generate", "all", "bare"))
    ]


def by_nnsight(lm: LanguageModel, n: int, new_tokens: int, repeats: int) -> list[Ratio]:
    """Capture at every layer and steered generation by nnsight against the same by hooks."""
    encoded = prompts(lm, n)
    points = [HookPoint(layer) for layer in range(lm.n_layers)]
    edits = [Add(random_direction(lm.d_model, half_depth(lm), seed=0), 0.0, 1.0, ALL)]
    found = []
    for what, job in (
        ("capture, all layers", lambda model: capture(model, encoded, points, LAST_PROMPT)),
        ("steered generation", lambda model: generate(model, encoded, max_new_tokens=new_tokens, edits=edits)),
    ):
        jobs = {"nnsight": partial(job, through_nnsight(lm)), "hooks": partial(job, lm)}
        seconds = in_turn(jobs, repeats)
        found.append(summarise(f"{what}, nnsight / hooks", lm.name, seconds["nnsight"], seconds["hooks"], target=None))
    return found


def pair_memory(name: str, tokenizer_of: str, adapter: Path, quick: bool, repeats: int) -> list[Ratio]:
    """A pair against one model, each in a fresh process: bytes of weights, and resident memory at its peak."""
    common = [name, tokenizer_of, "quick" if quick else "full"]
    ones, pairs = [], []
    for _ in range(repeats):
        ones.append(child("one", *common))
        pairs.append(child("pair", *common, str(adapter)))
    return [
        summarise(
            f"memory of a pair / one model, {what}",
            name,
            [found[key] / 1e6 for found in pairs],
            [found[key] / 1e6 for found in ones],
            target=1.1,
            unit="MB",
        )
        for what, key in (("weights", "parameters"), ("peak of the process", "peak_rss"))
    ]


def help_seconds(repeats: int) -> Ratio:
    """Wall seconds of `anachron --help`, interpreter start included."""
    seconds = in_turn({"help": lambda: _run([sys.executable, "-m", "analyses.cli", "--help"])}, repeats)
    return summarise("anachron --help", "command line", seconds["help"], None, target=0.3)


def birds_run(out: Path, options: Sequence[str]) -> list[Ratio]:
    """Seconds and peak memory of `anachron run birds`, once, in a fresh process."""
    start = time.perf_counter()
    found = child("birds", str(out), *options)
    seconds = time.perf_counter() - start
    name = " ".join(("anachron run birds", *options))
    return [
        summarise(f"{name}: seconds", "command line", [seconds], None, target=None),
        summarise(f"{name}: peak memory", "command line", [found["peak_rss"] / 1e6], None, target=None, unit="MB"),
    ]


def child(job: str, *arguments: str) -> dict[str, float]:
    """Run a job of `analyses.bench.child` in a fresh process; what its last line says."""
    return json.loads(_run([sys.executable, "-m", "analyses.bench.child", job, *arguments]).splitlines()[-1])


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        end = " ".join(done.stderr.strip().splitlines()[-3:])
        raise AnachronError(f"{' '.join(command[1:])} ended with code {done.returncode}: {end}")
    return done.stdout
