"""What each of several processes runs in the test of training together: python -m tests.training.worker FOLDER."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import torch

from interp.files import digest, write_json
from tests.families import build
from tests.training.chats import ROWS, Interrupted, interrupt_at
from training.finetune import Recipe, finetune

# five rows in batches of three: the second batch has fewer rows than two processes have parts
RECIPE = Recipe(steps=None, epochs=4, batch_size=3, learning_rate=1e-2, accumulate=2, evaluate_every=3, seed=2)
UNSEEN = ROWS[1:4]
STOP = 4


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    lm, digests = build("llama"), []

    def keep(step: int, loss: float) -> None:
        weights = [weight for name, weight in lm.model.named_parameters() if ".lora_" in name]
        digests.append([loss, digest(torch.cat([weight.detach().flatten() for weight in weights]).numpy().tobytes())])

    finetune(lm, ROWS, RECIPE, folder / "whole", progress=keep, held_out=UNSEEN, keep_epochs=True)
    with suppress(Interrupted):
        finetune(lm, ROWS, RECIPE, folder / "parts", progress=interrupt_at(STOP), checkpoint_every=1, held_out=UNSEEN)
    finetune(lm, ROWS, RECIPE, folder / "parts", held_out=UNSEEN)
    write_json(folder / f"process-{os.environ['RANK']}.json", digests)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
