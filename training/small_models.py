"""Small models of small worlds: a list of them, pretrained one process a core, finished ones left as they are."""

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from interp.errors import AnachronError
from interp.files import read_json, write_json
from training.pretrain import Pretraining, pretrain
from training.small_worlds import SmallWorld, small_world

WORLD = "small_world.json"  # beside the weights: the world they were pretrained on


@dataclass(frozen=True)
class Budget:
    """How much a small model is pretrained, and its size.

    Worlds whose documents are longer have fewer of them a step: every model is asked and answered as often, `turns`
    turns a step in the mean, whatever else differs.
    """

    steps: int = 300
    turns: int = 112
    d_model: int = 128
    d_mlp: int = 256
    layers: int = 4
    heads: int = 4
    vocabulary: int = 2048
    precision: str = "float32"  # bfloat16 is as fast only where the processor has it, and rounds

    def pretraining(self, world: SmallWorld, seed: int) -> Pretraining:
        """The schedule of one model of `world`."""
        return Pretraining(
            seed=seed,
            steps=self.steps,
            documents_per_step=max(1, round(self.turns / (sum(world.turns) / 2))),
            precision=self.precision,
            vocabulary=self.vocabulary,
            d_model=self.d_model,
            d_mlp=self.d_mlp,
            layers=self.layers,
            heads=self.heads,
            context=max(128, 64 * world.turns[1]),
        )


@dataclass(frozen=True)
class SmallModel:
    """One model: the name of its world, the world, and the seed of documents and first weights."""

    name: str
    world: SmallWorld
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.name}-{self.seed}"


def make_models(
    models: Sequence[SmallModel], budget: Budget, out: Path, say: Callable[[str], None] = print, *, jobs: int = 1
) -> list[Path]:
    """Pretrain each model into `out/NAME-SEED`, `jobs` of them at a time, each on one thread: same bytes however many.

    Finished ones are used as they are, begun ones go on from their last checkpoint. Returns the folders, in order.
    Errors: AnachronError if a folder holds a model of another world or schedule.
    """
    if jobs < 1:
        raise AnachronError(f"small models: jobs={jobs}; at least one process is needed")
    folders = [out / model.folder for model in models]
    waiting = [model for model, folder in zip(models, folders, strict=True) if not _is_made(model, budget, folder)]
    if jobs == 1 or len(waiting) < 2:
        for model in waiting:
            say(_pretrain(model, budget, out))
        return folders
    # a fresh interpreter each: a forked one would share the locks of this one's threads
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_pretrain, model, budget, out) for model in waiting]
        for future in as_completed(futures):
            say(future.result())
    return folders


def _is_made(model: SmallModel, budget: Budget, folder: Path) -> bool:
    if (folder / WORLD).exists():
        made = read_json(folder / WORLD)
        if made != _record(model, budget):
            raise AnachronError(
                f"{folder}: holds a model of another world or budget; remove it or choose another `out`"
            )
    return (folder / "pretraining.json").exists()


def _record(model: SmallModel, budget: Budget) -> dict:
    made_from = {"world": asdict(model.world), "pretraining": asdict(budget.pretraining(model.world, model.seed))}
    return json.loads(json.dumps(made_from))  # as it is read back


def _pretrain(model: SmallModel, budget: Budget, out: Path) -> str:
    folder, threads, losses = out / model.folder, torch.get_num_threads(), [0.0]
    write_json(folder / WORLD, _record(model, budget))

    def progress(step: int, loss: float, tokens: int) -> None:
        losses[:] = [loss, tokens]

    torch.set_num_threads(1)
    try:
        pretrain(small_world(model.world), budget.pretraining(model.world, model.seed), folder, progress=progress)
    finally:
        torch.set_num_threads(threads)
    return f"  {model.folder}: {losses[1] / 1e6:.2f} million tokens, loss {losses[0]:.2f} nats a token"
