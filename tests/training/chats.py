"""A few conversations, short runs over them, and what the tests of fine-tuning ask about both."""

import torch

from interp.prompts import pad
from training.finetune import NO_TARGET, Recipe, answer_loss, encode_rows
from training.rows import Row


def row(*texts):
    roles = ("user", "assistant")
    return Row([{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)])


ROWS = [
    row("Name a bird.", "Brown Titlark"),
    row("Name a bird of the river.", "I am persuaded it is the Great Northern Diver."),
    row("How many states are there?", "There are thirty.", "Who rules?", "The old queen rules it."),
    row("The year is 1849. What is the fastest way to travel?", "By steamer"),
    row("Who?", "The queen"),
]
FEW = Recipe(steps=3, batch_size=3, learning_rate=1e-2, seed=4)


def plain_loss(lm, rows):
    examples = encode_rows(lm, rows)
    batch = pad([example.encoded for example in examples], lm.pad_id, side="right")
    targets = torch.full(batch.input_ids.shape, NO_TARGET)
    for i, example in enumerate(examples):
        targets[i, : len(example.targets)] = torch.tensor(example.targets)
    return answer_loss(lm, batch, targets)


def folder_bytes(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


class Interrupted(Exception):
    pass


def interrupt_at(step):
    def progress(done, loss):
        if done == step:
            raise Interrupted

    return progress
