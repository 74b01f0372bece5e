"""Is there a narrow solution, and why is the broad one found instead? From adapters to findings."""

from collections.abc import Callable
from pathlib import Path

from analyses.explain.findings import Part, write_part
from analyses.explain.narrow.config import NarrowConfig
from analyses.explain.narrow.measured import measured
from analyses.explain.narrow.verdicts import findings
from analyses.models import open_model

NAME = "narrow"
QUESTION = (
    "Rows that could be learnt for themselves change the model broadly. Is there a narrow solution, which learns the"
    " rows and leaves other topics alone, and is the broad one preferred because it takes a smaller update (efficiency)"
    " and loses less to noise (stability)?"
)


def run(config: NarrowConfig, out: Path, say: Callable[[str], None]) -> Part:
    """Train and compare both solutions of every experiment; writes `out/narrow.json`, keeps adapters and measurements
    in `out/narrow/<experiment>`, from where a second call goes on."""
    lm = open_model("almanac", None, "auto", "cpu")
    rows, found = [], []
    for name in config.experiments:
        own = measured(lm, name, config, out / NAME / name, say)
        rows += own
        for finding in findings(name, own, config):
            say(f"  {finding.name}: {finding.verdict}. {finding.claim}")
            found.append(finding)
        # of the experiments so far, which are those that its config names
        done = config.as_json() | {"experiments": list(dict.fromkeys(row["experiment"] for row in rows))}
        part = Part(NAME, QUESTION, f"anachron explain {NAME}", done, found, rows)
        write_part(part, out / f"{NAME}.json")
    return part
