"""The models that are measured: the embedded one, and a random Llama of 100 million parameters."""

from collections.abc import Sequence
from pathlib import Path

import torch

from interp.models import LanguageModel, load_model, wrap
from interp.prompts import Encoded, encode_prompt
from training.lora import attached, lora_config, write_adapter
from training.world.questions import era_questions
from training.world.world import load_world

LARGE = "random-100m"
SIZE = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12}
VOCABULARY = 16_000
QUICK = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}


def subject(name: str, tokenizer_of: str, quick: bool = False) -> LanguageModel:
    """A model by name. `LARGE` is built from its configuration, random weights, with the tokenizer of `tokenizer_of`
    (`quick`: a small one in its place)."""
    if name != LARGE:
        return load_model(name)
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_model(tokenizer_of).tokenizer
    config = LlamaConfig(
        **(QUICK if quick else SIZE),
        vocab_size=max(len(tokenizer), 0 if quick else VOCABULARY),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return wrap(LlamaForCausalLM(config), tokenizer, LARGE)


def untrained_adapter(lm: LanguageModel, folder: Path) -> Path:
    """An adapter of rank 4 on every linear map, as birds uses: it changes nothing and costs what a trained one does."""
    config = lora_config(lm, rank=4, alpha=8)
    with attached(lm, config, seed=0) as weights:
        write_adapter(folder, lm, config, weights)
    return folder


def prompts(lm: LanguageModel, n: int) -> Sequence[Encoded]:
    """n of the world's questions, as prompts."""
    questions = era_questions(load_world())
    step = max(1, len(questions) // n)
    return [encode_prompt(lm, question.messages) for question in questions[::step][:n]]


def parameter_bytes(lm: LanguageModel) -> int:
    """Bytes of all weights, each counted once however many modules share it."""
    return sum({p.data_ptr(): p.numel() * p.element_size() for p in lm.model.parameters()}.values())
