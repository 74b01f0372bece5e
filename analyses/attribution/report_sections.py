"""What an experiment's report shows of attribution: the page's parts, and one sentence above them."""

from collections.abc import Mapping
from typing import Any

from analyses.attribution.page import Section, sections
from analyses.figures.style import signed
from analyses.measurements import Result

NOTHING = "nothing was attributed"


def about(result: Result) -> Mapping[str, Any]:
    """What the configuration says of attribution: `absent`, the reason, where nothing was attributed."""
    found = result.config["attribution"] if "attribution" in result.config else {}
    return found or {"absent": NOTHING}


def parts(result: Result) -> list[Section]:
    """The parts in reading order; one that lacks something it needs holds `absent`."""
    return sections(dict(about(result)))


def caption(result: Result) -> str:
    """What is attributed, in which models, and with how many answers."""
    found = about(result)
    made, behavior = found["about"], found["behavior"]
    models = behavior["models"]
    n = len(behavior["questions"])
    few = "" if made["answers"] == made["of"] else f" (at most {made['answers']} of the {made['of']} a group has)"
    return (
        f"Log-odds of {behavior['group']} answers against all others{few} on {n} of {made['asked']} test questions: "
        f"{signed(models['base']['estimate'])} in the base, {signed(models['tuned']['estimate'])} in {made['tuned']}, "
        f"{signed(models['control']['estimate'])} in {made['control']}. What is screened by gradients is confirmed by "
        "exact patches; a single seed and few questions, so this says where to look, not how much it varies."
    )
