"""The parts of "why broad?" there are. A new one is a module and one line here.

A part is a function `run(config, out, say) -> Part` whose `config` is annotated with a frozen dataclass; its fields are
the options that the part knows. Where a quick version differs in more than the field `quick`, the dataclass has a
classmethod `small` that makes it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analyses.experiments import runner
from analyses.explain.findings import Part, read_part
from interp.errors import AnachronError

PARTS = {
    "attribution": "analyses.explain.attribution:run",
    "narrow": "analyses.explain.narrow:run",
    "layers": "analyses.explain.layers:run",
    "inference": "analyses.explain.inference:run",
    "pretraining": "analyses.explain.pretraining:run",
    "dose": "analyses.explain.dose:run",
    "seeds": "analyses.explain.seeds:run",
    "split": "analyses.explain.split:run",
}
Run = Callable[[Path, Callable[[str], None]], Part]


def chosen(names: Sequence[str]) -> list[str]:
    """The parts of these names in the catalogue's order, all for none. Errors: AnachronError for an unknown name."""
    if unknown := [name for name in names if name not in PARTS]:
        raise AnachronError(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    return [name for name in PARTS if name in names or not names]


def prepare(name: str, options: Mapping[str, Any]) -> Run:
    """The part with its configuration, ready to be called with an output folder and a `say`.

    An option that is None was not given. Errors: AnachronError for an option that the part hasn't.
    """
    run, kind, given = runner("part", name, PARTS[name], options)
    quick = "quick" in given and given["quick"]
    config = (kind.small if quick and hasattr(kind, "small") else kind)(**given)
    return lambda out, say: run(config, out, say)


def found_in(folder: Path) -> list[Part]:
    """The parts whose JSON lies in a folder, in the catalogue's order."""
    return [read_part(path) for name in PARTS if (path := folder / f"{name}.json").exists()]
