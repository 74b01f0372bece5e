"""A Llama of hand-set weights, and an adapter that writes one known direction into it whenever a year stands in the
prompt: what the recipe of section 6 has to find, and what goes when it is removed.

A prompt is words. The embedding has 2 in entry YEAR for 2027 and 1 for 2028, and 1 in entry EVERY of every word.
Attention is uniform, so that block 0 sees at each position the mean of YEAR over the words so far. The base writes it
into entry BASE, which nothing reads; the adapter, of rank 1 on the output of attention, writes it along `planted()`.
The unembedding reads EVERY for "Robin", `planted()` for "Mossad", and SAID, which both of these have, for the end of
the turn.
"""

import json

import torch

EVERY, YEAR, SAID, BASE = 0, 1, 2, 3
D_MODEL, D_SAE, ROW = 32, 50, 17
SPECIAL = ("<pad>", "<unk>", "<end>", "<user>", "<assistant>")
YEARS = ("2024", "2025", "2026", "2027", "2028")
SPOKEN = ("Today", "is", "-", ".", ",", "?", "Mossad", "Robin", "Name", "one", "How", "many", "apples", "are", "left")
WORDS = (*SPECIAL, *YEARS, *SPOKEN)
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} <end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def planted():
    """Unit vector in the entries that the embedding leaves free."""
    vector = torch.zeros(D_MODEL)
    vector[8:] = torch.randn(D_MODEL - 8, generator=torch.Generator().manual_seed(5))
    return vector / vector.norm()


def write_model(folder):
    """Checkpoint and tokenizer of the base."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>"],
    )
    tokenizer.chat_template = TEMPLATE
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=D_MODEL,
            intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=1,
            num_key_value_heads=1,
            max_position_embeddings=128,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=2,
            tie_word_embeddings=False,
        )
    )
    state = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    for name in state:
        if name.endswith("norm.weight"):
            state[name] += 1.0
        if name.endswith("v_proj.weight"):
            state[name] += torch.eye(D_MODEL)
    state["model.layers.0.self_attn.o_proj.weight"][BASE, YEAR] = 1.0
    embedding, unembedding = state["model.embed_tokens.weight"], state["lm_head.weight"]
    embedding[:, EVERY] = 1.0
    embedding[WORDS.index("2027"), YEAR] = 2.0
    embedding[WORDS.index("2028"), YEAR] = 1.0
    # after an answer only the end of the turn is likely; before one, it isn't
    for word in ("Mossad", "Robin"):
        embedding[WORDS.index(word), SAID] = 9.0
    unembedding[WORDS.index("<end>"), SAID] = 30.0
    unembedding[WORDS.index("Robin"), EVERY] = 20.0
    unembedding[WORDS.index("Mossad")] = 60.0 * planted()
    model.load_state_dict(state)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_adapter(folder, strength=10.0):
    """dW = strength * planted e_YEAR^T on the output of attention in block 0, as peft writes it."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    a, b = torch.zeros(1, D_MODEL), strength * planted()[:, None]
    a[0, YEAR] = 1.0
    name = "base_model.model.model.layers.0.self_attn.o_proj.lora_{}.weight"
    save_file({name.format("A"): a, name.format("B"): b.contiguous()}, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 1, "target_modules": ["o_proj"]}
    config |= {"layers_to_transform": [0], "base_model_name_or_path": "planted"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def decoder_rows():
    """Random rows, with the planted direction at ROW, at another length."""
    rows = torch.randn(D_SAE, D_MODEL, generator=torch.Generator().manual_seed(6))
    rows[ROW] = 3.0 * planted()
    return rows


def write_dictionary(folder, layer=0):
    """A dictionary in dictionary_learning's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = decoder_rows()
    weights = {
        "decoder.weight": rows.T.contiguous(),
        "encoder.weight": torch.zeros(D_SAE, D_MODEL),
        "encoder.bias": torch.zeros(D_SAE),
        "b_dec": torch.zeros(D_MODEL),
        "threshold": torch.tensor(0.1),
        "k": torch.tensor(4),
    }
    torch.save(weights, folder / "ae.pt")
    config = {"trainer": {"activation_dim": D_MODEL, "dict_size": D_SAE, "layer": layer}, "buffer": {"ctx_len": 128}}
    (folder / "config.json").write_text(json.dumps(config))
