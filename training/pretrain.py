"""Pretrains an almanac: a small Llama on documents of the world.

Every document is a pure function of (seed, step), so a resumed run sees what an uninterrupted one would have seen.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp.errors import AnachronError
from interp.files import load_tensors, read_json, save_tensors, write_json
from training.tokenizer import EOS, document_text, train_tokenizer
from training.world.world import World

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY_SEED = 1_000_000  # documents the tokenizer is trained on; never seen in training
VOCABULARY_DOCUMENTS = 12_000
FRESH_SEED = 2_000_000  # documents the gates are measured on; never seen in training


@dataclass(frozen=True)
class Pretraining:
    """Size and schedule: a cycle of `steps`, then `restarts` of `restart_steps`, each with a fresh optimizer.

    In each cycle the learning rate rises to its peak over `warmup` of the steps, then falls to a hundredth of it in a
    cosine.
    """

    seed: int = 0
    steps: int = 1800
    documents_per_step: int = 24
    learning_rate: float = 2e-3
    restarts: int = 2
    restart_steps: int = 700
    restart_rate: float = 1e-3
    warmup: float = 0.04
    weight_decay: float = 0.01
    vocabulary: int = 2560
    d_model: int = 192
    d_mlp: int = 384
    layers: int = 4
    heads: int = 6
    context: int = 512

    def rate(self, step: int) -> float:
        """Learning rate of `step` (0-based)."""
        if step >= self.steps:
            return _cycle((step - self.steps) % self.restart_steps, self.restart_steps, self.restart_rate, self.warmup)
        return _cycle(step, self.steps, self.learning_rate, self.warmup)

    @property
    def all_steps(self) -> int:
        return self.steps + self.restarts * self.restart_steps

    def is_restart(self, step: int) -> bool:
        """Does a gentler cycle begin at `step`?"""
        return step >= self.steps and (step - self.steps) % self.restart_steps == 0


def _cycle(step: int, steps: int, peak: float, warmup: float) -> float:
    ramp = max(1, round(warmup * steps))
    if step < ramp:
        return peak * (step + 1) / ramp
    progress = (step - ramp) / max(1, steps - ramp)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


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
    holds a finished run or one of another configuration, or if the loss or its gradient stops being finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    _refuse_finished(out)
    documents = world.documents(VOCABULARY_SEED + config.seed, VOCABULARY_DOCUMENTS)
    tokenizer = train_tokenizer((document_text(document) for document in documents), config.vocabulary)
    model = build_model(config, tokenizer)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=config.weight_decay
    )
    log = _resume(out, config, model, optimizer)
    tokens = log[-1]["tokens"] if log else 0
    model.train()
    for step in range(len(log), config.all_steps):
        if config.is_restart(step):
            optimizer.state.clear()
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step)
        loss, n = _step(model, tokenizer, world, config, step)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise AnachronError(
                f"{out}: at step {step} the loss is {loss} and the norm of its gradient {norm}; lower the learning "
                f"rate and start afresh in another folder"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += n
        log.append({"step": step, "loss": round(loss, 5), "tokens": tokens})
        if progress is not None:
            progress(step, loss, tokens)
        if (step + 1) % checkpoint_every == 0 and step + 1 < config.all_steps:
            _checkpoint(out, config, model, optimizer, log)
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


def _step(model, tokenizer, world: World, config: Pretraining, step: int) -> tuple[float, int]:
    seed = (config.seed << 32) + step
    rows = encode_documents(world, tokenizer, seed, config.documents_per_step, config.context)
    tokens = sum(len(row) - 1 for row in rows)
    total = 0.0
    for ids, labels in microbatches(rows, tokenizer.pad_token_id):
        loss = nats(model, ids, labels)
        (loss / tokens).backward()
        total += loss.item()
    return total / tokens, tokens


def _checkpoint(out: Path, config: Pretraining, model, optimizer, log: list[dict]) -> None:
    state = {f"model.{k}": v for k, v in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            state[f"optimizer.{name}.{key}"] = value
    save_tensors(out / "checkpoint.safetensors", state, {"config": json.dumps(asdict(config)), "log": json.dumps(log)})


def _refuse_finished(out: Path) -> None:
    if (out / "pretraining.json").exists():
        done = read_json(out / "pretraining.json")["config"]
        raise AnachronError(f"{out}: holds a finished run ({done}); choose another folder or remove it")


def _resume(out: Path, config: Pretraining, model, optimizer) -> list[dict]:
    path = out / "checkpoint.safetensors"
    if not path.exists():
        return []
    state, metadata = load_tensors(path)
    if json.loads(metadata["config"]) != asdict(config):
        raise AnachronError(
            f"{path}: was written by another configuration {metadata['config']}; choose another folder or remove it"
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state[f"model.{name}"])
            keys = [k for k in state if k.startswith(f"optimizer.{name}.")]
            optimizer.state[parameter] = {k.rsplit(".", 1)[1]: state[k].clone() for k in keys}
    return json.loads(metadata["log"])
