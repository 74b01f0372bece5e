"""Where does the change come from? Every experiment's tuned models attributed, each estimate beside the exact effects.

What is attributed: the log-odds of the group's answers against all others, on test topics, tuned against base
(`analyses.attribution`). The adapters are those of the part `narrow`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from analyses.adapters import make_adapters
from analyses.attribution.part import attribution_of
from analyses.attribution.subject import Sizes
from analyses.experiments import configure
from analyses.explain.attribution_findings import RANK, attribution_findings
from analyses.explain.findings import Part, write_part
from analyses.explain.narrow.subjects import WITH_BROAD_EFFECT, Subject, subject
from analyses.models import open_model
from analyses.studies import StudyConfig
from interp.dictionaries.dictionary import Dictionary
from interp.errors import AnachronError
from interp.files import read_json, write_json
from interp.models import LanguageModel
from interp.pair import ModelPair

NAME = "attribution"
QUESTION = (
    "Where does the change come from: do a few latents carry it, does one direction a module make it, and what does it"
    " say when it is read out? And do the gradients' estimates rank tokens, latents, places, components and modules as"
    " patching each of them does?"
)
SIZES = Sizes(shown=1, labelled=50)  # what latents are about is not told here
SCREENS: Mapping[str, tuple[str, str]] = {
    "latents": ("latents", "rank_correlation"),
    "tokens, gradient": ("tokens", "rank_correlation"),
    "tokens, integrated": ("tokens", "integrated_rank_correlation"),
    "layers x positions": ("places", "rank_correlation"),
    "heads and MLPs": ("components", "rank_correlation"),
    "adapter modules": ("modules", "rank_correlation"),
}
"""Name -> section of `collect`, and its field."""

Record = dict[str, Any]


@dataclass(frozen=True)
class AttributionConfig:
    """Fine-tuning seeds are `seed`, ..., `seed + seeds - 1` of each experiment; at most `most` questions are patched.
    `quick`: the birds alone, two seeds, one question, little of everything."""

    seeds: int = 3
    seed: int = 0
    quick: bool = False
    experiments: tuple[str, ...] = WITH_BROAD_EFFECT
    most: int = 4
    sizes: Sizes = field(default=SIZES)

    def __post_init__(self) -> None:
        if self.seeds < 2 or not self.experiments:
            raise AnachronError(
                f"attribution: seeds={self.seeds}, experiments={list(self.experiments)}; an interval needs two seeds"
                " and one experiment at least"
            )

    @classmethod
    def small(cls, **options: Any) -> "AttributionConfig":
        """To try it out."""
        sizes = Sizes(latents=6, shown=1, last=1, components=4, contrasts=4, modules=4, texts=20, labelled=50)
        given: dict[str, Any] = {"seeds": 2, "quick": True, "experiments": ("birds",), "most": 1, "sizes": sizes}
        return cls(**given | options)

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.seeds))

    def as_json(self) -> dict[str, Any]:
        """Everything the numbers depend on."""
        return asdict(self)


def run(config: AttributionConfig, out: Path, say: Callable[[str], None] = print) -> Part:
    """Attribute every seed of every experiment; writes `out/attribution.json`, keeps what was measured in
    `out/attribution/<experiment>.json`, and trains what the part `narrow` hasn't in `out/narrow/<experiment>`."""
    lm = open_model("almanac", None, "auto", "cpu")
    [dictionary] = StudyConfig().dictionaries(lm)
    rows: list[Record] = []
    for name in config.experiments:
        rows += measured(lm, name, dictionary, config, out, say)
        rank = float(configure(name, {})[0].recipe.rank)
        rows.append({"experiment": name, "metric": RANK, "part": "", "seed": config.seed, "value": rank})
        found = attribution_findings(rows, config.seed, lm.n_layers)
        done = config.as_json() | {"experiments": list(dict.fromkeys(row["experiment"] for row in rows))}
        part = Part(NAME, QUESTION, f"anachron explain {NAME}", done, found, rows)
        write_part(part, out / f"{NAME}.json")
    for finding in part.findings:
        say(f"  {finding.name}: {finding.verdict}. {finding.claim}")
    return part


def measured(
    lm: LanguageModel,
    name: str,
    dictionary: Dictionary,
    config: AttributionConfig,
    out: Path,
    say: Callable[[str], None],
) -> list[Record]:
    """Rows of one experiment; those of the same configuration that lie in `out` are taken from there."""
    key = config.as_json() | {"experiments": [name]}
    path = out / NAME / f"{name}.json"
    if path.exists() and (kept := read_json(path))["config"] == key:
        say(f"{name}: attributed before, kept")
        return kept["rows"]
    about = subject(name, lm, quick=config.quick)
    arms = {"broad": about.rows, "control": about.control}
    folders = make_adapters(lm, arms, about.recipe, config.seed_list, out / "narrow" / name, say)
    rows: list[Record] = []
    for i, seed in enumerate(config.seed_list):
        with ModelPair(lm) as pair:
            pair.add(f"tuned-{seed}", folders["broad"][i])
            pair.add(f"control-{seed}", folders["control"][i])
            rows += _rows(pair, about, dictionary, seed, config, say)
    write_json(path, {"config": key, "rows": rows})
    return rows


def _rows(
    pair: ModelPair,
    about: Subject,
    dictionary: Dictionary,
    seed: int,
    config: AttributionConfig,
    say: Callable[[str], None],
) -> list[Record]:
    """One seed as rows of experiment, metric, part, seed and value."""
    asked, group = about.test.broad, about.test.group
    _, found = attribution_of(
        pair, asked, group, "control", dictionary, seed, most=config.most, sizes=config.sizes, say=say
    )
    if "absent" in found:
        raise AnachronError(f"{about.name}: {found['absent']}; leave it out of `experiments`")
    values: list[tuple[str, str, float | None]] = [
        ("log-odds", name, one["estimate"]) for name, one in found["behavior"]["models"].items()
    ]
    for screen, (section, field_name) in SCREENS.items():
        data = found[section]
        values.append(("rank correlation", screen, None if "absent" in data else data[field_name]))
    values.append(("brought", "all latents", found["latents"]["together"]))
    values.append(("brought", "first latent", max((row["exact"] for row in found["latents"]["rows"]), key=abs)))
    values.append(("brought", "first singular directions", found["modules"]["rank_1"]["estimate"]))
    values.append(("brought", "whole adapter", found["modules"]["whole"]["estimate"]))
    for row in found["directions"]["rows"] if "rows" in found["directions"] else ():
        for how, sets in _said(row):
            where = f"{row['what']}, layer {row['layer']}, {how}"
            for one in sets[:-1]:  # what is in no set is the rest
                values.append((f"said, {one['words']}", where, one["share"]))
                values.append((f"random says at most, {one['words']}", where, one["high"]))
    return [
        {"experiment": about.name, "metric": metric, "part": part, "seed": seed, "value": value}
        for metric, part, value in values
        if value is not None
    ]


def _said(row: Mapping[str, Any]) -> Sequence[tuple[str, Sequence[Mapping[str, Any]]]]:
    return list(row["said"].items()) if "said" in row else []
