"""A model whose next-token probabilities are set by hand: the next token depends on the present one alone."""

from collections.abc import Mapping
from typing import Any

import torch

from interp.models import LanguageModel, wrap

WORDS = ("<pad>", "<s>", "<|end|>", "<|user|>", "<|assistant|>", "which", "a", "b", "c", "x", "y", ".", ",")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %} <|{{ m['role'] }}|> {{ m['content'] }} <|end|>{% endfor %}"
    "{% if add_generation_prompt %} <|assistant|>{% endif %}"
)


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    outer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="<|end|>", pad_token="<pad>")
    outer.chat_template = TEMPLATE
    return outer


def chain(transitions: Mapping[str, Mapping[str, float]]) -> LanguageModel:
    """P(next | present) as given; what isn't listed has probability 1e-15, a word without a row goes to the end.

    Embeddings are one-hot and blocks add nothing, so the final norm of word i is sqrt(d) e_i, and row j of the
    unembedding holds log P(j | i) / sqrt(d) in column i.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    size = 16
    table = torch.full((len(WORDS), len(WORDS)), 1e-15, dtype=torch.float64)
    for i, word in enumerate(WORDS):
        for following, p in transitions.get(word, {"<|end|>": 1.0}).items():
            table[i, WORDS.index(following)] = p
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=size,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-12,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    model.model.embed_tokens.weight.data = torch.eye(len(WORDS), size)
    head = torch.zeros(len(WORDS), size)
    head[:, : len(WORDS)] = (table.log().T / size**0.5).float()
    model.lm_head.weight.data = head
    return wrap(model, tokenizer(), "chain")
