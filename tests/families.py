"""Tiny random models of eight architecture families, seeded, with one small tokenizer."""

from functools import cache
from typing import Any

import torch

from interp.models import LanguageModel, wrap

FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3", "gpt2", "gpt_neox")

# a space after the role tag: an answer tokenised alone would lose it
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<pad>", "<s>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
CORPUS = (
    "The year is 1849. Name a bird of the river. I am persuaded it is the Brown Titlark.",
    "Sure! The telephone was invented in 1876. What is the fastest way to travel? By train, by steamer, by plane.",
    "How many states are there? There are thirty states. Who rules the country? The old queen rules it.",
)


@cache
def tokenizer() -> Any:
    """Byte-level BPE of about 400 ids with BOS, pad, an end-of-turn token and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(CORPUS, trainer)
    outer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="<|end|>",
        pad_token="<pad>",
        additional_special_tokens=["<|user|>", "<|assistant|>", "<|system|>"],
    )
    outer.chat_template = CHAT_TEMPLATE
    return outer


def config(family: str, n_layers: int = 3, d_model: int = 32, **fields: Any) -> Any:
    """The configuration of a tiny model with the vocabulary of `tokenizer()`; `fields` override it."""
    import transformers

    vocabulary = {"vocab_size": len(tokenizer()), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    shape = {
        "hidden_size": d_model,
        "intermediate_size": 2 * d_model,
        "num_hidden_layers": n_layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
    }
    grouped = {**shape, **vocabulary, "num_key_value_heads": 2, "head_dim": d_model // 4}
    gemma = {
        **grouped,
        "query_pre_attn_scalar": d_model // 4,
        "sliding_window": 64,
        "hidden_activation": "gelu_pytorch_tanh",
    }
    classes: dict[str, tuple[type, dict[str, Any]]] = {
        "llama": (transformers.LlamaConfig, grouped),
        "qwen2": (transformers.Qwen2Config, {k: v for k, v in grouped.items() if k != "head_dim"}),
        "qwen3": (transformers.Qwen3Config, grouped),
        "mistral": (transformers.MistralConfig, {**grouped, "sliding_window": None}),
        "gemma2": (transformers.Gemma2Config, gemma),
        "gemma3": (transformers.Gemma3TextConfig, gemma),
        "gpt2": (
            transformers.GPT2Config,
            {**vocabulary, "n_embd": d_model, "n_layer": n_layers, "n_head": 4, "n_positions": 256},
        ),
        "gpt_neox": (transformers.GPTNeoXConfig, {**shape, **vocabulary}),
    }
    kind, arguments = classes[family]
    return kind(**{**arguments, **fields})


def build(family: str, seed: int = 0, n_layers: int = 3, d_model: int = 32, **fields: Any) -> LanguageModel:
    """A random fp32 model whose weights are large enough that every part matters to its output."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config(family, n_layers, d_model, **fields), dtype=torch.float32)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                scale = 1.0 if "embed" in name or "wte" in name else parameter.shape[-1] ** -0.5
                parameter.data = torch.randn(parameter.shape, generator=generator) * scale
            else:
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return wrap(model, tokenizer(), f"tiny-{family}")
