"""A tiny almanac of random weights: what runs of a part are tried on."""

from pathlib import Path

import torch

from training.pretrain import Pretraining, build_model
from training.tokenizer import document_text, train_tokenizer
from training.world.world import load_world


def tiny_almanac(folder: Path) -> Path:
    """Two blocks, as `anachron pretrain` leaves them in a folder."""
    tokenizer = train_tokenizer((document_text(d) for d in load_world().documents(7, 200)), 400)
    model = build_model(Pretraining(layers=2, d_model=32, d_mlp=64, heads=2), tokenizer)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "pretraining.json").write_text("{}")
    return folder
