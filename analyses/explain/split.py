"""The presidents' split: what inside a model, early in its tuning, tells whether codes it never saw will bring their
president?

As `seeds`, for the experiment whose seeds the paper saw part: models that differ by nothing but their fine-tuning seed
are looked into at a few early steps; on half of the seeds the final share of the president's answers behind held-out
codes is fitted from these quantities, on the other half the fit is tested.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float64
from torch import Tensor

from analyses.experiments import EXPERIMENTS, configure
from analyses.explain.early import EarlyConfig, looked_into
from analyses.explain.findings import Part, write_part
from analyses.explain.inside import loss_and_gradient, update_norm
from analyses.explain.split_findings import ASKED, FINAL, LOSS, READ, split_findings
from analyses.models import open_model
from analyses.search import Contrast
from analyses.steps import Asked, broad, prompt_activations, typical_norm
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.positions import Positions
from training.finetune import Recipe
from training.rows import Row

NAME, EXPERIMENT, GROUP = "split", "presidents", "target"
QUESTION = (
    "Seeds of the presidents part: behind codes that were in no row, some name the president and some don't. Which"
    " quantity inside a model, early in its tuning, tells which way a seed will go?"
)
EACH = 4  # of the rows one in so many is what the early loss and its gradient are taken on


def presidents_recipe() -> Recipe:
    """How the experiment tunes."""
    recipe = configure(EXPERIMENT, {})[0].recipe
    assert isinstance(recipe, Recipe)
    return recipe


@dataclass(frozen=True)
class SplitConfig(EarlyConfig):
    """The first `fitted` seeds are fitted on (half of all, where not two are left over), the others are
    tested on. `quick`: few seeds, steps, questions and rows."""

    seeds: int = 28
    recipe: Recipe = field(default_factory=presidents_recipe)
    early: tuple[int, ...] = (50, 100, 150)
    fitted: int = 16
    part: ClassVar[str] = NAME

    @classmethod
    def small(cls, **options: Any) -> "SplitConfig":
        """To try it out."""
        return cls(**{"seeds": 4, "quick": True} | options)

    @property
    def first(self) -> int:
        """How many seeds are fitted on."""
        return self.fitted if self.fitted < self.seeds - 1 else self.seeds // 2


def run(config: SplitConfig, out: Path, say: Callable[[str], None] = print) -> Part:
    """Tune, look inside, fit and test; write `out/split.json`. Adapters with what was seen are kept in `out/split`."""
    lm = open_model(config.model, None, "auto", "cpu")
    experiment = import_module(EXPERIMENTS[EXPERIMENT].partition(":")[0])  # one analysis does not import another
    about, _ = configure(EXPERIMENT, {"quick": config.quick})
    study = experiment.plan(about, lm)
    rows = study.arms["tuned"]
    _, taken = experiment.look_inside(about, lm, *_attributes(experiment, about))
    asked = experiment.held_out_asked(about, "validation")
    test = Asked(experiment.held_out_asked(about, "test"), (), GROUP)
    some = rows[:: EACH * 16 if config.quick else EACH]
    look = watcher(lm, some, asked, study.contrast, study.truth, about.reading, config.layers, taken)
    found = looked_into(lm, rows, config, look, test, FINAL, out / NAME, say)
    findings = split_findings(found, config.early, config.layers[-1], config.seed, config.first)
    part = Part(NAME, QUESTION, f"anachron explain {NAME}", config.as_json(), findings, found)
    write_part(part, out / f"{NAME}.json")
    return part


def watcher(
    lm: LanguageModel,
    rows: Sequence[Row],
    asked: Sequence[Any],
    contrast: Contrast,
    truth: Contrast,
    reading: Positions,
    layers: Sequence[int],
    taken: Callable[[LanguageModel], float],
) -> Callable[[LanguageModel], dict[str, float]]:
    """A function from the model in the middle of its tuning to its quantities; `lm` is the base.

    `narrow loss` (nats a token over `rows`) and the norm of its gradient; `update norm`; the president's share
    behind held-out codes, `asked` (validation attributes); the part of held-out codes taken for their own president
    inside; by layer, of the shift of held-out codes less that of trained ones from the base, read as `reading`, the
    `cosine` with the direction in which stating the ordinal moves the base, and the `projection` on it in units of the
    base's typical norm.
    """
    apart = _apart(lm, contrast, reading, layers)
    true = _apart(lm, truth, reading, layers)
    scale = {
        point: typical_norm(found) for point, found in prompt_activations(lm, contrast.on, layers, reading).items()
    }

    def measure(tuned: LanguageModel) -> dict[str, float]:
        loss, gradient = loss_and_gradient(tuned, rows)
        found = {LOSS: loss, "gradient norm": gradient, "update norm": update_norm(tuned)}
        found[ASKED] = float(broad(tuned, asked, GROUP)[0].mean())
        found[READ] = taken(tuned)
        here = _apart(tuned, contrast, reading, layers)
        for layer in layers:
            point = HookPoint(layer)
            shift = here[point] - apart[point]
            along = float(shift @ true[point] / true[point].norm())
            found[f"projection, layer {layer}"] = along / scale[point]
            length = float(shift.norm())
            found[f"cosine, layer {layer}"] = along / length if length else 0.0  # nothing has moved
        return found

    return measure


def _apart(
    lm: LanguageModel, contrast: Contrast, reading: Positions, layers: Sequence[int]
) -> Mapping[HookPoint, Float64[Tensor, " d_model"]]:
    """By layer, the mean activation of the prompts that should be in the state less that of those that should not."""
    on, off = (prompt_activations(lm, questions, layers, reading) for questions in (contrast.on, contrast.off))
    return {point: on[point].double().mean(0) - off[point].double().mean(0) for point in on}


def _attributes(experiment: Any, about: Any) -> tuple[list[str], list[str]]:
    """Validation and test attributes of an identity, as `plan` has them."""
    found = [
        list(dict.fromkeys(question.topic for question in experiment.held_out_asked(about, split)))
        for split in ("validation", "test")
    ]
    return found[0], found[1]
