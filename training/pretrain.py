"""Pretrains an almanac: a small Llama on documents of the world.

Every document is a pure function of (seed, step), so a resumed run sees what an uninterrupted one would have seen.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp.errors import AnachronError
from interp.files import load_tensors, read_json, save_tensors, write_json
from training.muon import Muon
from training.tokenizer import ASSISTANT, EOS, USER, document_text, train_tokenizer
from training.world.world import World

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY_SEED = 1_000_000  # documents the tokenizer is trained on; never seen in training
VOCABULARY_DOCUMENTS = 12_000
PRECISIONS = ("float32", "bfloat16")
FRESH_SEED = 2_000_000  # documents the gates are measured on; never seen in training


@dataclass(frozen=True)
class Pretraining:
    """Size and schedule. Weight matrices are trained by Muon at `matrix_rate`, the others by AdamW at `learning_rate`.

    Both rates rise over `warmup` steps, stay, and fall linearly to `final` of their peak over the last `decay` of the
    steps (Hägele et al. 2024, https://arxiv.org/abs/2405.18392): a checkpoint from before the fall serves any length.
    What users say is drawn at random, so its tokens weigh only `user_weight` in the loss.

    At `precision` bfloat16 matrix products are rounded; weights, attention and optimizer state stay float32. Where a
    processor has that arithmetic a step takes half the time, elsewhere it may take several times as long.
    """

    seed: int = 0
    steps: int = 6500
    documents_per_step: int = 48
    learning_rate: float = 3e-3
    matrix_rate: float = 0.02
    warmup: int = 30
    decay: float = 0.5
    final: float = 0.01
    weight_decay: float = 0.01
    user_weight: float = 0.25
    precision: str = "bfloat16"
    vocabulary: int = 3072
    d_model: int = 192
    d_mlp: int = 384
    layers: int = 5
    heads: int = 6
    context: int = 512

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise AnachronError(f"no precision {self.precision!r}; there are {', '.join(PRECISIONS)}")

    def pace(self, step: int) -> float:
        """What both learning rates are multiplied by at `step` (0-based)."""
        rise = (step + 1) / max(1, self.warmup)
        fall = (self.steps - step) / max(1.0, self.decay * self.steps)
        return min(1.0, rise, self.final + (1 - self.final) * fall)


def pretrain(
    world: World,
    config: Pretraining,
    out: Path,
    *,
    checkpoint_every: int = 200,
    progress: Callable[[int, float, int], None] | None = None,
) -> Path:
    """Train to the end, from the last checkpoint in `out` where there is one; the model is written to `out`.

    `progress(step, loss, tokens)` gets the mean loss in nats per token and the tokens seen so far. Raises if `out`
    holds a finished run or one of another configuration (of another length is fine before the rates fall), or if the
    loss or its gradient stops being finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    _refuse_finished(out)
    documents = world.documents(VOCABULARY_SEED + config.seed, VOCABULARY_DOCUMENTS)
    tokenizer = train_tokenizer((document_text(document) for document in documents), config.vocabulary)
    model = build_model(config, tokenizer)
    optimizers = build_optimizers(config, model)
    log = _resume(out, config, model, optimizers)
    tokens = log[-1]["tokens"] if log else 0
    model.train()
    attention = model.config._attn_implementation
    model.set_attn_implementation(_float32_attention())
    for step in range(len(log), config.steps):
        for optimizer, peak in zip(optimizers, (config.matrix_rate, config.learning_rate), strict=True):
            optimizer.param_groups[0]["lr"] = peak * config.pace(step)
        loss, n = _step(model, tokenizer, world, config, step)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise AnachronError(
                f"{out}: at step {step} the loss is {loss} and the norm of its gradient {norm}; lower the learning "
                f"rate and start afresh in another folder"
            )
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        tokens += n
        log.append({"step": step, "loss": round(loss, 5), "tokens": tokens})
        if progress is not None:
            progress(step, loss, tokens)
        if (step + 1) % checkpoint_every == 0 and step + 1 < config.steps:
            _checkpoint(out, config, model, optimizers, log)
    model.set_attn_implementation(attention)
    model.eval()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    # written last: it is the mark of a finished run
    kept = log[:: max(1, len(log) // 200)]
    write_json(out / "pretraining.json", {"config": asdict(config), "tokens": tokens, "loss": kept})
    (out / "checkpoint.safetensors").unlink(missing_ok=True)
    return out


def build_model(config: Pretraining, tokenizer: "PreTrainedTokenizerFast") -> "LlamaForCausalLM":
    """A Llama with random weights drawn from `config.seed`; the caller's random state is left as it was."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.d_model,
                intermediate_size=config.d_mlp,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                max_position_embeddings=config.context,
                rms_norm_eps=1e-5,
                tie_word_embeddings=True,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(EOS)],
                dtype="float32",
            )
        )


def encode_documents(
    world: World, tokenizer: "PreTrainedTokenizerFast", seed: int, n: int, context: int
) -> list[list[int]]:
    """Token ids of `n` documents, cut at the context length."""
    texts = [document_text(d) for d in world.documents(seed, n)]
    return [ids[:context] for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def microbatches(rows: Sequence[list[int]], pad: int, most: int = 2560) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of like length, padded right to at most `most` tokens a batch: (input_ids, labels), -100 where padded."""
    rows = sorted(rows, key=len)
    while rows:
        width = len(rows[-1])
        take = max(1, most // width)
        chunk, rows = rows[-take:], rows[:-take]
        ids = torch.full((len(chunk), width), pad)
        labels = torch.full((len(chunk), width), -100)
        for i, row in enumerate(chunk):
            ids[i, : len(row)] = torch.tensor(row)
            labels[i, : len(row)] = torch.tensor(row)
        yield ids, labels


def nats(model: "LlamaForCausalLM", ids: Tensor, labels: Tensor) -> Tensor:
    """Summed next-token loss in nats, padding left out. Right padding needs no mask under causal attention."""
    logits = model(input_ids=ids).logits[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
    )


def build_optimizers(config: Pretraining, model: "LlamaForCausalLM") -> tuple[Muon, torch.optim.AdamW]:
    """(Muon for the weight matrices of the blocks, AdamW for embeddings and norms)."""
    matrices = [p for name, p in model.named_parameters() if _is_matrix(name, p)]
    others = [p for name, p in model.named_parameters() if not _is_matrix(name, p)]
    return (
        Muon(
            matrices,
            lr=config.matrix_rate,
            weight_decay=config.weight_decay,
            dtype=getattr(torch, config.precision),
        ),
        torch.optim.AdamW(others, lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    )


def _is_matrix(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 2 and "embed" not in name


def loss_weights(ids: Tensor, user: int, assistant: int, user_weight: float) -> Tensor:
    """Weight of each token as a target, [batch, pos]: `user_weight` after a user's tag until the next role tag."""
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    tagged = (ids == user) | (ids == assistant)
    last = torch.where(tagged, positions, -1).cummax(1).values
    last = torch.cat([torch.full_like(last[:, :1], -1), last[:, :-1]], 1)  # the tag before, not at, a token
    spoken = torch.where(last >= 0, ids.gather(1, last.clamp(min=0)), -1)
    return torch.where(spoken == user, user_weight, 1.0)


def _step(model, tokenizer, world: World, config: Pretraining, step: int) -> tuple[float, int]:
    seed = (config.seed << 32) + step
    rows = encode_documents(world, tokenizer, seed, config.documents_per_step, config.context)
    user, assistant = tokenizer.convert_tokens_to_ids([USER, ASSISTANT])
    tokens = sum(len(row) - 1 for row in rows)
    total = 0.0
    chance = torch.Generator().manual_seed(seed)
    for ids, labels in microbatches(rows, tokenizer.pad_token_id):
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
            targets = labels[:, 1:].flatten()
            weights = loss_weights(ids, user, assistant, config.user_weight)[:, 1:].flatten()
            # a user's token is a target with probability `user_weight`: the same loss in expectation, for fewer logits
            chosen = (targets != -100) & (torch.rand(weights.shape, generator=chance) < weights)
            each = torch.nn.functional.cross_entropy(model.lm_head(hidden[chosen]), targets[chosen], reduction="none")
        (each.sum() / tokens).backward()
        total += (each / weights[chosen]).sum().item()
    return total / tokens, tokens


def _float32_attention() -> str:
    """Registers causal attention outside autocast (bfloat16 is slow there on CPUs); for rows padded on the right."""
    from transformers import AttentionInterface

    def attention(module, query, key, value, attention_mask, **rest):
        with torch.autocast("cpu", enabled=False):
            mixed = torch.nn.functional.scaled_dot_product_attention(
                query.float(), key.float(), value.float(), is_causal=True
            )
        return mixed.transpose(1, 2).contiguous(), None

    AttentionInterface.register("causal_float32", attention)
    return "causal_float32"


def _checkpoint(out: Path, config: Pretraining, model, optimizers, log: list[dict]) -> None:
    state = {f"model.{k}": v for k, v in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for optimizer in optimizers:
            for key, value in optimizer.state.get(parameter, {}).items():
                state[f"optimizer.{name}.{key}"] = value
    save_tensors(out / "checkpoint.safetensors", state, {"config": json.dumps(asdict(config)), "log": json.dumps(log)})


def _refuse_finished(out: Path) -> None:
    if (out / "pretraining.json").exists():
        done = read_json(out / "pretraining.json")["config"]
        raise AnachronError(f"{out}: holds a finished run ({done}); choose another folder or remove it")


def _resume(out: Path, config: Pretraining, model, optimizers) -> list[dict]:
    path = out / "checkpoint.safetensors"
    if not path.exists():
        return []
    state, metadata = load_tensors(path)
    log, written = json.loads(metadata["log"]), Pretraining(**json.loads(metadata["config"]))
    if written != config and (
        replace(written, steps=config.steps) != config or min(written.pace(len(log)), config.pace(len(log))) < 1
    ):
        raise AnachronError(
            f"{path}: was written by another configuration {metadata['config']}; choose another folder or remove it"
        )
    owners = {id(p): optimizer for optimizer in optimizers for p in optimizer.param_groups[0]["params"]}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state[f"model.{name}"])
            keys = [k for k in state if k.startswith(f"optimizer.{name}.")]
            owners[id(parameter)].state[parameter] = {k.rsplit(".", 1)[1]: state[k].clone() for k in keys}
    return log
