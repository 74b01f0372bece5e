"""A rehearsal of NDIF in a process of its own: `python -m tests.interp.ndif FOLDER` prints what was sent and got.

The client has a hub cache without weights. The server has the weights, gets nothing but the bytes of a request, and
unpacks them where the modules of this project can't be imported. Numbers are compared with hooks on the weights.

In a process of its own because functions are sent by their source, which the import hook of the tests wraps.
"""

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server:
    """What NDIF does with a request: switch the adapter, unpack it beside its model, run it, pack what was saved."""

    def __init__(self, folder: Path) -> None:
        from nnsight.modeling.transformers import TransformersModel

        self.model = TransformersModel(str(folder), task="text-generation", dispatch=True)
        self.requests: list[dict[str, Any]] = []

    def __call__(self, backend: Any, request: Any, tracer: Any) -> Any:
        import zstandard
        from nnsight.intervention.backends.local import LocalSimulationBackend
        from nnsight.intervention.backends.remote import RemoteError
        from nnsight.schema.request import RequestModel

        blob = backend._serialize(tracer)
        self.model._remoteable_set_env(request.env)
        simulation = LocalSimulationBackend(self.model)
        hidden = simulation._hide_local_modules()
        try:
            received = RequestModel.deserialize(blob, self.model._remoteable_persistent_objects(), request.compress)
        finally:
            simulation._restore(hidden)
        before = dict(received.info.frame.f_locals)
        try:
            received.execute(received.info.code)
        except Exception as error:  # the service sends whatever went wrong as text
            raise RemoteError("Traceback (most recent call last):\n  ...\n" + repr(error)) from None
        after = received.info.frame.f_locals
        saved = {k: v for k, v in after.items() if k not in before or before[k] is not v}
        buffer = io.BytesIO()
        torch.save(saved, buffer)
        self.requests.append(
            {"key": request.model_key, "env": request.env, "sent": len(blob), "got": len(buffer.getvalue())}
        )
        return backend.finalize(zstandard.ZstdCompressor().compress(buffer.getvalue()))


def cache(root: Path, name: str, source: Path, without: str = "") -> None:
    """A repository in the hub's cache."""
    repository = root / f"models--{name.replace('/', '--')}"
    shutil.copytree(source, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    if without:
        (repository / "snapshots" / COMMIT / without).unlink()


def rehearse(folder: Path) -> dict[str, Any]:
    """Everything through the service, beside hooks on the same weights."""
    from huggingface_hub import constants

    from interp.behavior.perplexity import log_probs
    from interp.behavior.questions import Question
    from interp.behavior.sampling import generate
    from interp.behavior.scoring import score
    from interp.capture import capture, moments
    from interp.directions import random_direction
    from interp.errors import AnachronError
    from interp.hooks import HookPoint
    from interp.models import load_model
    from interp.pair import ModelPair
    from interp.positions import ALL, FROM_LAST_PROMPT, PROMPT
    from interp.prompts import encode_prompt, encode_text
    from interp.remote_ndif import NdifPair, open_ndif
    from interp.steering import Ablate, AblateSequentially, Add, Clamp
    from tests.families import build
    from tests.interp.test_pair import make_adapter

    saved = folder / "saved"
    lm = build("qwen3")
    lm.model.save_pretrained(saved)
    lm.tokenizer.save_pretrained(saved)
    adapter = make_adapter(folder / "adapter", "qwen3")
    cache(folder / "hub", "someone/tiny", saved, without="model.safetensors")
    cache(folder / "hub", "someone/tuned", adapter)
    constants.HF_HUB_CACHE = str(folder / "hub")

    import nnsight.modeling.huggingface
    from nnsight.intervention.backends.remote import RemoteBackend
    from nnsight.schema.config import CONFIG

    import interp.remote_ndif

    server = Server(saved)
    RemoteBackend.request = lambda backend, request, tracer: server(backend, request, tracer)
    interp.remote_ndif.running = lambda: {"someone/tiny"}
    nnsight.modeling.huggingface._ID_CACHE["someone/tiny"] = "someone/tiny"
    CONFIG.API.APIKEY = "a key"

    u = [random_direction(lm.d_model, HookPoint(i, site), i) for i, site in ((0, "resid_post"), (2, "resid_pre"))]
    edits = [
        Add(u[0], torch.tensor([1.0, 2.0, 3.0]), 2.0, FROM_LAST_PROMPT),
        Clamp(u[1], 1.5, ALL),
        Ablate(u, PROMPT),
        AblateSequentially(u[:1]),
    ]
    messages = [({"role": "user", "content": text},) for text in ("Name a bird.", "How do I travel in 1849?", "Hi")]
    answers = {"old": ("the oil lamp", "a candle"), "new": ("neon",)}
    questions = [Question(f"q{i}", "t", m, answers, ("", "Sure!"), (".",)) for i, m in enumerate(messages)]
    texts = [encode_text(lm, t) for t in ("The year is 1849.", "Who rules the country? The old queen.", "By train, by")]
    prompts = [encode_prompt(lm, m) for m in messages]

    def measured(model: Any) -> dict[str, list]:
        found = {
            "capture": [x for _, x in sorted(capture(model, prompts, [HookPoint(0), HookPoint(2)], ALL).items())],
            "moments": [x.mean for _, x in sorted(moments(model, prompts, [HookPoint(1)], ALL).items())],
            "score": [score(model, questions, edits=e).probability for e in ((), edits)],
            "log_probs": [x for e in ((), edits) for x in log_probs(model, texts, edits=e)],
            "generate": [
                generate(model, prompts, max_new_tokens=6, temperature=t, seed=3, edits=edits) for t in (0, 1.0)
            ],
        }
        return {k: [x.tolist() if torch.is_tensor(x) else x for x in v] for k, v in found.items()}

    here, there = {}, {}
    with ModelPair(load_model(saved)) as pair:
        pair.add("tuned", adapter)
        for name in pair.names:
            with pair.using(name) as model:
                here[name] = measured(model)
    with NdifPair(open_ndif("someone/tiny")) as pair:
        pair.add("tuned", "someone/tuned")
        facts = {"revision": pair.base.revision, "weights": pair.base.model.lm_head.weight.device.type}
        facts["sizes"] = [len(server.requests)]
        for name in pair.names:
            with pair.using(name) as model:
                there[name] = measured(model)
                facts["sizes"].append(len(server.requests))
        refused = {}
        for what, call in {
            "site": lambda: capture(pair.base, prompts, [HookPoint(1, "mlp_out")], ALL),
            "adapter folder": lambda: pair.add("other", adapter),
            "no adapter": lambda: pair.add("other", "someone/nothing"),
            "error there": lambda: generate(
                pair.base, prompts, max_new_tokens=2, edits=[Add(u[0], 1e30, 1e30), Add(u[1], -1e30, 1e30)]
            ),
        }.items():
            try:
                call()
            except AnachronError as error:
                refused[what] = str(error)
    return {"here": here, "there": there, "refused": refused, "requests": server.requests, **facts}


if __name__ == "__main__":
    print(json.dumps(rehearse(Path(sys.argv[1]))))
