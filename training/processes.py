"""The processes that train one adapter together, one a device, as `accelerate launch` or `torchrun` starts them.

Every process holds the whole model and goes through its own part of each batch; what they add up is the gradient. All
of them see the same rows in the same order, so nothing else is ever sent. Started alone, a process is all of them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from interp.errors import AnachronError


@dataclass(frozen=True)
class Processes:
    """This process's `index` among `count`. The main one, index 0, is the one that writes files."""

    index: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        return self.index == 0

    def share(self, items: Sequence[Any], parts: int = 1) -> list[Sequence[Any]]:
        """This process's share of a batch, in at most `parts` parts, none of them empty. All the processes' parts laid
        end to end are `items`; their lengths differ by one at most."""
        n = self.count * parts
        cuts = [len(items) * i // n for i in range(self.index * parts, (self.index + 1) * parts + 1)]
        return [items[start:end] for start, end in pairwise(cuts) if start < end]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors of one dtype over the processes, in place, in one message."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            torch.distributed.barrier()


def joined(device: torch.device) -> Processes:
    """This process among those it was launched with; `device` is the one its model is on.

    Errors: AnachronError if it shares a GPU with another process, which `local_device` is there to avoid.
    """
    if _world_size() == 1:
        return Processes()
    from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu")
    if device.type == "cuda" and device.index != state.local_process_index:
        raise AnachronError(
            f"process {state.process_index} of {state.num_processes} has its model on {device}, not on"
            f" cuda:{state.local_process_index}; load it there"
        )
    return Processes(state.process_index, state.num_processes)


def local_device(device: str) -> str:
    """The device of this process: of several, each takes the GPU of its own number when "cuda" is asked for."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and _world_size() > 1 else device


def is_main() -> bool:
    """Whether this process is the main one, without joining the others yet: the one to talk to the user."""
    return _world_size() == 1 or os.environ["RANK"] == "0"


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))  # the launchers set it; unset, there is this process alone
