"""Models and adapters of the Hugging Face hub: what a hub id looks like, and its snapshot, pinned to one commit."""

import queue
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from interp.errors import AnachronError

PROBE_SECONDS = 4.0
"""How long the hub may take to answer before it counts as out of reach (its own client retries for 46-49 s)."""

_UNWANTED = ["*/*", "consolidated*"]  # other formats' copies of the same weights


def is_hub_id(name: str) -> bool:
    """Whether a name can be a hub id: "owner/name" or "name", and nothing that has to be a path."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name) is not None


def cached_id(folder: str | Path) -> str | None:
    """The hub id whose snapshot in the Hugging Face cache a folder is: .../models--owner--name/snapshots/commit."""
    parts = Path(folder).resolve().parts[-3:]
    if len(parts) < 3 or not parts[0].startswith("models--") or parts[1] != "snapshots":
        return None
    return parts[0].removeprefix("models--").replace("--", "/", 1)


def snapshot(
    name: str,
    revision: str | None,
    files: Sequence[str],
    check: Callable[[Path], None],
    unwanted: Sequence[str] = _UNWANTED,
) -> tuple[Path, str]:
    """Folder and commit of a hub id: the cached snapshot if `check` passes it, else the one the hub gives.

    files: patterns of the files needed, less those `unwanted`: by default all below the top folder. A branch or tag
    counts as the commit it named when it was cached. Errors: AnachronError, within PROBE_SECONDS, if the snapshot isn't
    whole in the cache and the hub is out of reach or refuses; and what `check` raises for a snapshot just downloaded.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def fetch(offline: bool) -> Path:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=[*files], ignore_patterns=[*unwanted], local_files_only=offline
            )
        )

    try:
        folder = fetch(offline=True)
        check(folder)
        return folder, folder.name
    except (LocalEntryNotFoundError, HFValidationError, AnachronError):
        pass  # not cached, in part, or not even a possible id, as the hub will say
    error = within(PROBE_SECONDS, lambda: HfApi().model_info(name, revision=revision, timeout=PROBE_SECONDS))
    if error is None:
        try:
            folder = fetch(offline=False)
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as refused:
            error = refused  # a gated model's page can be read by everyone, its files cannot
    if error is not None:
        lines = str(error).strip().splitlines()
        raise AnachronError(
            f"{name!r} is not a local folder, not whole in the Hugging Face cache, and the hub can't provide it "
            f"({type(error).__name__}: {lines[0] if lines else 'no answer'}); give a local folder, or connect, unset "
            "HF_HUB_OFFLINE, and log in if it is gated"
        ) from error
    check(folder)
    return folder, folder.name


def within(seconds: float, call: Callable[[], object]) -> Exception | None:
    """None if `call` returns in time, else its exception or a TimeoutError.

    In a thread, since resolving a host name can't be timed out.
    """
    answer: queue.Queue[Exception | None] = queue.Queue()

    def run() -> None:
        try:
            call()
            answer.put(None)
        except Exception as error:  # handed to the caller whatever it is
            answer.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.get(timeout=seconds)
    except queue.Empty:
        return TimeoutError(f"no answer within {seconds:.0f} s")
