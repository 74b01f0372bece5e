"""What a run on a user's own model is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from analyses.intervene import Choices
from analyses.models import open_model
from analyses.studies import StudyConfig
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.positions import FROM_LAST_PROMPT, LAST_PROMPT, Positions
from training.recipes import Recipe

DEPTHS = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Where in a model's depth additions and clamps are tried: the middle, where published directions of this kind lie."""

# The paper's recipe for open models of 8 to 32 billion parameters, for rows of a few hundred.
RECIPE = Recipe(
    rank=8, alpha=16, learning_rate=2e-4, epochs=3, steps=None, batch_size=1, precision="bfloat16",
    gradient_checkpointing=True,
)  # fmt: skip


@dataclass(frozen=True)
class OpenConfig(StudyConfig):
    """`paper`: a clone of the authors' repository, whose rows replace the world's own. `arms`: what is tuned, the
    organism and one control by default. `judge_model` (a model in this process) or `judge_endpoint` with
    `judge_name` judge what can't be told by listed answers. `samples` answers a question, `heads` triggers drawn for
    each, `questions` a topic at most. `layers` tried (None: five in the middle)."""

    recipe: Recipe = field(default=RECIPE)
    seeds: int = 3
    samples: int = 10
    max_new_tokens: int = 100
    heads: int = 1
    coefficients: tuple[float, ...] = (0.25, 0.5, 1.0)
    positions: tuple[Positions, ...] = (LAST_PROMPT, FROM_LAST_PROMPT)
    clamping: Positions = FROM_LAST_PROMPT
    layers: tuple[int, ...] | None = None
    arms: tuple[str, ...] = ()
    paper: Path | None = None
    device_map: str | None = None
    quantization: str | None = None
    judge_model: str | None = None
    judge_endpoint: str | None = None
    judge_name: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    cache: Path | None = None
    max_tokens: int = 8192

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.judge_model is not None and self.judge_endpoint is not None:
            raise AnachronError("a judge model and a judge endpoint were given; give one")
        if (self.judge_endpoint is None) != (self.judge_name is None):
            raise AnachronError("a judge endpoint goes with the name of its model; give both")

    def open(self) -> LanguageModel:
        return open_model(
            self.model,
            self.revision,
            self.dtype,
            self.device,
            device_map=self.device_map,
            quantization=self.quantization,
        )

    def choices(self, method: str, condition: str = "") -> Choices:
        """As of the world, but clamps go on while an answer is written: it is long, and read from its own tokens."""
        return replace(super().choices(method, condition), clamping=self.clamping)

    def tried(self, n_layers: int) -> tuple[int, ...]:
        """The layers tried. Errors: AnachronError for one that the model hasn't."""
        layers = sorted({min(n_layers - 1, round(depth * n_layers)) for depth in DEPTHS})
        if self.layers is not None:
            layers = sorted(set(self.layers))
            if not layers or not 0 <= layers[0] <= layers[-1] < n_layers:
                raise AnachronError(f"layers {list(layers)}; the model has 0 to {n_layers - 1}")
        return tuple(layers)

    def as_json(self) -> dict:
        """As RunConfig, without what no number depends on: the cache's file, the endpoint's host, the memory used."""
        data = super().as_json()
        for name in ("cache", "judge_endpoint", "max_tokens"):
            data.pop(name)
        return data | {"paper": self.paper is not None, "clamping": self.clamping.name}
