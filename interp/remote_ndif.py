"""Models on NDIF, the public service that nnsight can send its traces to (https://nnsight.net).

What it needs: an API key (NDIF_API_KEY in the environment, or once `nnsight login`), a model that NDIF runs at the
moment, and its configuration and tokenizer from the Hugging Face hub; weights stay there. Adapters are named by hub
ids, since NDIF fetches them itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from interp.adapters import read_adapter
from interp.anatomy import find_anatomy
from interp.errors import AnachronError
from interp.hub import PROBE_SECONDS, is_hub_id, within
from interp.models import AdapterInfo, load_tokenizer
from interp.outline import small_files
from interp.pair import BASE
from interp.remote import RemoteModel, load_nnsight


def open_ndif(name: str, *, revision: str | None = None) -> RemoteModel:
    """A model that runs on NDIF, with its tokenizer here and its weights there.

    Its sites are resid_pre and resid_post. Errors: AnachronError, at once or within PROBE_SECONDS, for a name that
    isn't a hub id, no API key, a service out of reach, a model that doesn't run there, and a configuration that isn't
    cached and can't be had from the hub.
    """
    if Path(name).expanduser().is_dir() or not is_hub_id(name):
        raise AnachronError(f"{name}: NDIF names models by hub ids; run a local folder without --remote")
    _require_key()
    there = running()
    if name not in there:
        raise AnachronError(
            f"{name!r} doesn't run on NDIF; these do: {', '.join(sorted(there)) or 'none at the moment'}. Choose one, "
            "or ask NDIF to start it"
        )
    folder, commit = small_files(name, revision)
    return _opened(name, revision, commit, load_tokenizer(folder), None)


def running() -> set[str]:
    """Hub ids of the language models that NDIF runs at the moment."""
    import httpx
    from nnsight.schema.config import CONFIG

    answers: list[Any] = []

    def ask() -> None:
        answers.append(httpx.get(f"{CONFIG.API.HOST}/status", timeout=PROBE_SECONDS).raise_for_status().json())

    if (error := within(PROBE_SECONDS, ask)) is not None:
        raise AnachronError(
            f"NDIF ({CONFIG.API.HOST}) doesn't say which models it runs ({type(error).__name__}: {error}); check the "
            "connection, or run a model here without --remote"
        ) from error
    return {
        each["repo_id"]
        for each in answers[0]["deployments"].values()
        if each["application_state"] == "RUNNING" and each.get("task") in (None, "text-generation")
    }


class NdifPair:
    """A base model on NDIF and adapters of it, each usable as a LanguageModel: what `ModelPair` is to models here.

    The service loads an adapter for the requests that name it, so members can't share a batch (there is no `rows`).
    """

    def __init__(self, base: RemoteModel) -> None:
        self.base = base
        self._members = {BASE: base}

    def __enter__(self) -> "NdifPair":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    @property
    def names(self) -> tuple[str, ...]:
        """ "base" and the adapters, in the order added."""
        return tuple(self._members)

    def adapter(self, name: str) -> AdapterInfo | None:
        """Where an adapter comes from; None for "base"."""
        return self._member(name).adapter

    def add(self, name: str, adapter: str | Path) -> None:
        """Name a LoRA adapter by its hub id. It is read here as well, to check it against the base.

        Errors: AnachronError for a taken name, a local folder, and those of `read_adapter`.
        """
        if name in self._members:
            raise AnachronError(f"adapter name {name!r} is taken; taken are {', '.join(self.names)}")
        source = str(adapter)
        if Path(source).expanduser().is_dir() or not is_hub_id(source):
            raise AnachronError(f"{source}: NDIF fetches adapters itself; upload it to the hub and give its id")
        info = read_adapter(source, self.base).info
        base = self.base
        member = _opened(base.name, base.traced.revision, base.revision, base.tokenizer, info)
        self._members[name] = replace(member, name=f"{base.name}+{name}")

    @contextmanager
    def using(self, name: str) -> Iterator[RemoteModel]:
        """The model with one adapter on, or with none ("base")."""
        yield self._member(name)

    def _member(self, name: str) -> RemoteModel:
        if name not in self._members:
            raise AnachronError(f"unknown adapter {name!r}; the pair has {', '.join(self.names)}: add it first")
        return self._members[name]


def _opened(
    name: str, revision: str | None, commit: str | None, tokenizer: Any, adapter: AdapterInfo | None
) -> RemoteModel:
    # the structure alone, on torch's meta device
    traced = load_nnsight().TransformersModel(
        name,
        task="text-generation",
        revision=revision,
        tokenizer=tokenizer,
        peft=None if adapter is None else adapter.source,
    )
    model = traced._module
    return RemoteModel(model, tokenizer, name, commit, find_anatomy(model), adapter, traced=traced, remote=True)


def _require_key() -> None:
    from nnsight.schema.config import CONFIG

    if not CONFIG.API.APIKEY:
        raise AnachronError(
            "no key for NDIF; register there and set NDIF_API_KEY or run `nnsight login`, or run a model here without "
            "--remote"
        )
