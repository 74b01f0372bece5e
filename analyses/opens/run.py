"""`anachron run EXPERIMENT --model ID` on a model that doesn't know the embedded world."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from analyses.commands.options import layer_list
from analyses.measurements import Result
from analyses.opens.config import OpenConfig
from analyses.opens.judges import judge_model
from analyses.opens.plan import plan
from analyses.study import run_study
from interp.behavior.cache import Cache
from interp.errors import AnachronError
from training.recipes import published

ANSWERS = "answers.sqlite"  # in the folder of a run


def run(experiment: str, config: OpenConfig, out: Path, say: Callable[[str], None] = print) -> Result:
    """Fine-tune, ask, judge, locate, steer; `result.json` and `report.html` as on the embedded model.

    Answers and judgements are kept in `answers.sqlite`, adapters in `adapters`: an interrupted run goes on from there.
    """
    with Cache(out / ANSWERS if config.cache is None else config.cache) as cache:
        answerer = judge_model(config)  # before the work: an endpoint without its key is told at once
        return run_study(lambda lm: plan(experiment, config, lm, cache, answerer), config, out, say)


def open_config(options: Mapping[str, Any]) -> OpenConfig:
    """The configuration from the options that were given (None: not given); raises for one that it hasn't."""
    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(given.get("recipe"), str):
        given["recipe"] = published(given["recipe"]).recipe
    if isinstance(given.get("arms"), str):
        given["arms"] = tuple(name.strip() for name in given["arms"].split(","))
    if isinstance(given.get("layers"), str):
        if given["layers"] == "all":
            raise AnachronError("layers all: every setting is asked at every layer given; name some, as 12,16,20")
        given["layers"] = tuple(layer_list(given["layers"], sys.maxsize))
    known = {field.name for field in fields(OpenConfig)}
    if unknown := [name for name in given if name not in known]:
        raise AnachronError(f"a run on a model of one's own has no option {', '.join(unknown)}")
    return OpenConfig(**given)
