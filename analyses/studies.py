"""What a run is made from: everything its numbers depend on. Each experiment extends one of these."""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from analyses.intervene import Choices
from analyses.models import open_model
from interp.dictionaries.dictionary import Dictionary
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.positions import FROM_LAST_PROMPT, LAST_PROMPT, Positions
from training.finetune import Recipe
from training.world.world import World, load_world


@dataclass(frozen=True)
class RunConfig:
    """`data` and `control_data` are chat JSONL files in place of the world's own rows. Fine-tuning seeds are
    `seed`, ..., `seed + seeds - 1`, the same for tuned and controls. `reading`: the prompt tokens from whose mean
    activation directions are located, and which clamps edit; `positions`: the tokens that additions are tried on."""

    model: str = "almanac"
    revision: str | None = None
    dtype: str = "auto"
    device: str = "cpu"
    data: Path | None = None
    control_data: Path | None = None
    seeds: int = 5
    seed: int = 0
    quick: bool = False
    recipe: Recipe = field(default_factory=Recipe)
    coefficients: tuple[float, ...] = (0.5, 1.0, 1.5)
    reading: Positions = LAST_PROMPT
    positions: tuple[Positions, ...] = (LAST_PROMPT, FROM_LAST_PROMPT)
    randoms: int = 3
    documents: int = 60  # half to choose on, half to report on
    sae: tuple[str, ...] = ()  # SAEs of further layers, or of a model that comes without one
    crosscoder: bool = False  # also train one over base and tuned models, and one over base and controls

    def __post_init__(self) -> None:
        name = type(self).__name__.removesuffix("Config").lower()
        if self.seeds < 1 or self.randoms < 1:
            raise AnachronError(f"{name}: seeds={self.seeds} and randoms={self.randoms}; at least 1 of each is needed")
        if self.seeds < 2 and not self.quick:
            raise AnachronError(f"{name}: one seed is not a result; take --seeds 2 or more (5 by default)")

    def open(self) -> LanguageModel:
        """The model, loaded."""
        return open_model(self.model, self.revision, self.dtype, self.device)

    def dictionaries(self, lm: LanguageModel) -> list[Dictionary]:
        """The SAEs whose latents are looked at: the one that comes with a registered model, then those of `sae`.

        Errors: AnachronError for one that isn't of this model, and for two of one layer."""
        from interp.dictionaries.formats import load_dictionary
        from interp.dictionaries.sae import registered

        sources = [self.model] if self.model in registered() else []
        found: list[Dictionary] = [load_dictionary(source, lm=lm).to(lm.device) for source in (*sources, *self.sae)]
        layers = [dictionary.point.layer for dictionary in found]
        if len(set(layers)) < len(layers):
            raise AnachronError(f"SAEs of layers {layers}; give one a layer ({', '.join(d.name for d in found)})")
        return found

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.seeds))

    def choices(self, method: str, condition: str = "") -> Choices:
        """What settings are chosen by, with the method whose directions are put to use."""
        return Choices(
            self.seed, self.seed_list, self.coefficients, self.positions, method, condition, self.reading, self.reading
        )

    def as_json(self) -> dict:
        """Plain data for result.json; files by name only, so that the same run gives the same bytes anywhere."""
        return asdict(self) | {
            "data": self.data.name if self.data else None,
            "control_data": self.control_data.name if self.control_data else None,
            "sae": [Path(source).name for source in self.sae],
            "recipe": self.recipe.as_json(),
            "reading": self.reading.name,
            "positions": [p.name for p in self.positions],
        }


@dataclass(frozen=True)
class StudyConfig(RunConfig):
    """`samples`: answers drawn to each sampled question."""

    samples: int = 10

    @cached_property
    def world(self) -> World:
        """The world the embedded model knows."""
        return load_world()
