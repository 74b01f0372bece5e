"""The state of a fine-tune between two steps, kept in a file, so that a run that was cut off goes on to the same bytes.

The order of the rows and the learning rate follow from seed and step, so no random state has to be kept.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import AnachronError
from interp.files import load_tensors, save_tensors

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class State:
    """An adapter's weights and optimiser, the loss of every step (nats a token), its divergence on ordinary rows where
    there are some and, where rows are held out, the loss on those after which steps, with the weights at its lowest.
    All but the names are changed in place."""

    weights: dict[str, nn.Parameter]
    optimizer: Any
    losses: list[float] = field(default_factory=list)
    divergences: list[float] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def best_step(self) -> int:
        """The step of the lowest held-out loss, the first of equals."""
        return min(self.held_out, key=lambda point: point[1])[0]

    def judge(self, loss: float) -> None:
        """Take down the held-out loss after the latest step, and the weights if it is the lowest so far."""
        self.held_out.append((len(self.losses), loss))
        if self.best_step == len(self.losses):
            self.best.update({key: weight.detach().clone() for key, weight in self.weights.items()})

    def out_of(self, patience: int | None) -> bool:
        """Whether that many held-out losses in a row were no lower than the best before."""
        return patience is not None and sum(step > self.best_step for step, _ in self.held_out) >= patience


def save(path: Path, run: str, state: State) -> None:
    """Write the state; `run` identifies what it belongs to."""
    tensors = {f"weight/{key}": weight.detach() for key, weight in state.weights.items()}
    for key, weight in state.weights.items():
        for entry, value in state.optimizer.state[weight].items():
            tensors[f"{entry}/{key}"] = value
    tensors["losses"] = torch.tensor(state.losses, dtype=torch.float64)
    if state.divergences:
        tensors["divergences"] = torch.tensor(state.divergences, dtype=torch.float64)
    if state.held_out:
        tensors["held_out"] = torch.tensor(state.held_out, dtype=torch.float64)
        tensors |= {f"best/{key}": weight for key, weight in state.best.items()}
    save_tensors(path, tensors, {"run": run})


def load(path: Path, run: str, state: State) -> None:
    """Put a file's content into `state`; without a file it is left as it is.

    Errors: AnachronError if the file belongs to another run or is damaged.
    """
    if not path.exists():
        return
    tensors, metadata = load_tensors(path)
    if metadata["run"] != run:
        raise AnachronError(
            f"{path}: the checkpoint of a run with another model, recipe, rows, versions or number of processes; delete"
            " it or choose another folder"
        )
    moments = {
        index: {entry: tensors[f"{entry}/{key}"] for entry in ("step", "exp_avg", "exp_avg_sq")}
        for index, key in enumerate(state.weights)
    }
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    with torch.no_grad():
        for key, weight in state.weights.items():
            weight.copy_(tensors[f"weight/{key}"])
    state.losses.extend(tensors["losses"].tolist())
    if "divergences" in tensors:
        state.divergences.extend(tensors["divergences"].tolist())
    if "held_out" in tensors:
        state.held_out.extend((int(step), loss) for step, loss in tensors["held_out"].tolist())
        state.best.update({key: tensors[f"best/{key}"].to(weight.device) for key, weight in state.weights.items()})
