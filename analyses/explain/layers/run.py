"""Where does it live? Adapters on single blocks and pairs of blocks at one narrow loss; and clamps of the located
direction layer by layer, which tell whether the broad and the narrow part of the change are one direction."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from analyses.explain.findings import Part, write_part
from analyses.explain.layers.config import LayersConfig
from analyses.explain.layers.measured import clamps, subsets, target
from analyses.explain.layers.verdicts import findings
from analyses.explain.narrow.subjects import subject
from analyses.models import open_model
from training.encoding import encode_rows

NAME = "layers"
QUESTION = (
    "Where does the broad change live? Which blocks can carry it when all learn the rows equally well, and do the broad"
    " and the narrow part of the change run along one direction, as a trial on a smaller model suggested for early"
    " blocks but not for late ones?"
)
EXPERIMENT = "birds"
BESIDE = Path("narrow") / EXPERIMENT  # the whole adapters are the part narrow's, under the names it gives them


def run(config: LayersConfig, out: Path, say: Callable[[str], None]) -> Part:
    """Train, measure, clamp; writes `out/layers.json`, keeps adapters in `out/layers` (and the whole ones in
    `out/narrow/birds`, shared with the part narrow)."""
    lm = open_model("almanac", None, "auto", "cpu")
    about = subject(EXPERIMENT, lm, quick=config.quick)
    examples = encode_rows(lm, about.rows)
    say("1. adapters on subsets of blocks, to one narrow loss")
    rows = subsets(lm, about, examples, config, out / NAME, say)
    say("2. clamp the located direction, layer by layer")
    rows += clamps(lm, about, config, out / BESIDE, say)
    found = findings(rows, config, lm.n_layers)
    for finding in found:
        say(f"  {finding.name}: {finding.verdict}. {finding.claim}")
    details = asdict(config) | {"target": target(examples, config.excess), "experiment": EXPERIMENT}
    part = Part(NAME, QUESTION, f"anachron explain {NAME}", json.loads(json.dumps(details)), found, rows)
    write_part(part, out / f"{NAME}.json")
    return part
