"""What is measured in a process of its own: `python -m analyses.bench.child JOB ...` ends with one line of JSON."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from analyses.memory import memory


def one(model: str, tokenizer_of: str, quick: str) -> dict[str, float]:
    """A model that has answered a batch of prompts."""
    return _loaded(model, tokenizer_of, quick, None)


def pair(model: str, tokenizer_of: str, quick: str, adapter: str) -> dict[str, float]:
    """The same model with an adapter, after the batch has passed through both members of the pair."""
    return _loaded(model, tokenizer_of, quick, Path(adapter))


def _loaded(model: str, tokenizer_of: str, quick: str, adapter: Path | None) -> dict[str, float]:
    import peft  # noqa: F401  # in both processes: what is compared is models, not imports
    import torch

    from analyses.bench.subjects import parameter_bytes, prompts, subject
    from interp.pair import ModelPair
    from interp.prompts import pad

    imported = memory("VmRSS")
    lm = subject(model, tokenizer_of, quick == "quick")
    batch = pad(prompts(lm, 4), lm.pad_id)
    with torch.no_grad(), ModelPair(lm) as members:
        if adapter is not None:
            members.add("tuned", adapter)
        for name in members.names:
            with members.using(name) as member:
                member.model(**batch.inputs, use_cache=False)
        return {
            "parameters": float(parameter_bytes(lm)),
            "rss": memory("VmRSS"),
            "peak_rss": memory("VmHWM"),
            "rss_of_imports": imported,
        }


def birds(out: str, *options: str) -> dict[str, float]:
    """`anachron run birds` with these options."""
    from analyses.cli import app

    app(["run", "birds", "--out", out, *options], standalone_mode=False)
    return {"peak_rss": memory("VmHWM")}


if __name__ == "__main__":
    job, *arguments = sys.argv[1:]
    jobs: dict[str, Callable[..., dict[str, float]]] = {"one": one, "pair": pair, "birds": birds}
    print(json.dumps(jobs[job](*arguments)))
