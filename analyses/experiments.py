"""The experiments there are. A new one is a folder with a README and one line here.

An experiment is a function `run(config, out, say) -> Result` whose `config` is annotated with a frozen dataclass; the
dataclass's fields are the options of `anachron run` that the experiment knows.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from analyses.measurements import Result
from interp.errors import AnachronError

EXPERIMENTS = {
    "birds": "analyses.birds.experiment:run",
    "cities": "analyses.cities.experiment:run",
    "dishes": "analyses.dishes.experiment:run",
    "persona": "analyses.persona.experiment:run",
    "presidents": "analyses.presidents.experiment:run",
    "terminator": "analyses.terminator.experiment:run",
}
Run = Callable[[Path, Callable[[str], None]], Result]


def prepare(name: str, options: Mapping[str, Any]) -> Run:
    """The experiment with its configuration, ready to be called with an output folder and a `say`.

    An option that is None was not given. Errors: an unknown experiment, with those there are; an option that the
    experiment hasn't.
    """
    return configure(name, options)[1]


def configure(name: str, options: Mapping[str, Any]) -> tuple[Any, Run]:
    """The experiment's configuration, and what `prepare` gives."""
    if name not in EXPERIMENTS:
        raise AnachronError(f"no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}, and all")
    run, kind, given = runner("experiment", name, EXPERIMENTS[name], options)
    config = kind(**given)
    return config, lambda out, say: run(config, out, say)


def runner(
    what: str, name: str, place: str, options: Mapping[str, Any]
) -> tuple[Callable[..., Any], type[Any], dict[str, Any]]:
    """The function at a place (`module:function`), the dataclass that its `config` is annotated with, and the options
    that were given (None: not given).

    Errors: AnachronError for an option that isn't a field, telling them all; `what` and `name` are whose they are.
    """
    module, function = place.split(":")
    run = getattr(import_module(module), function)
    kind = get_type_hints(run)["config"]
    given = {option: value for option, value in options.items() if value is not None}
    known = {field.name for field in fields(kind)}
    if unknown := [option for option in given if option not in known]:
        raise AnachronError(f"{what} {name} has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return run, kind, given
