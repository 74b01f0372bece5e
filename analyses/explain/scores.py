"""What an adapter answers, kept beside it, so that a run that was stopped goes on."""

from dataclasses import asdict
from pathlib import Path

from analyses.adapters import MADE_FROM
from analyses.steps import Asked, Behavior, behavior
from interp.files import digest, read_json, write_json
from interp.models import LanguageModel
from interp.pair import ModelPair

FILE = "scores.json"


def scored(lm: LanguageModel, folder: Path, asked: Asked) -> Behavior:
    """The behaviour of the adapter that `make_adapters` left in `folder`; from `scores.json` there, where that is of
    this very adapter and these very questions."""
    path = folder / FILE
    key = {"adapter": read_json(folder / MADE_FROM), "asked": digest(repr(asked).encode())}
    if path.exists() and (kept := read_json(path))["of"] == key:
        return Behavior(kept["shares"], kept["coherence"], kept["narrow"])
    with ModelPair(lm) as pair:
        pair.add("tuned", folder)
        with pair.using("tuned") as tuned:
            found = behavior(tuned, asked)
    write_json(path, {"of": key, **asdict(found)})
    return found
