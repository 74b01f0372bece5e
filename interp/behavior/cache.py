"""Answers and judgements kept in a SQLite file under a hash of the exact request.

The key is the SHA-256 of the request as canonical JSON: who was asked (identity), the messages, how it was sampled, the
number of the sample; of a judgement: the judge's identity, messages and answer. What is kept survives a kill at any
moment, and several processes may use one file at once (on one machine: SQLite's log needs shared memory).
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interp.errors import AnachronError

VERSION = 1
_APPLICATION = 0x616E6163  # "anac", in the file's header
_WAIT_SECONDS = 60.0  # for another process's write
_AT_ONCE = 500  # keys a query


@dataclass(frozen=True)
class Entry:
    """A request, the reply to it, and labels that are no part of the request (which question it was)."""

    request: Mapping[str, Any]
    reply: Mapping[str, Any]
    labels: Mapping[str, Any] = field(default_factory=dict)


def canonical(data: Any) -> str:
    """JSON of one spelling: sorted keys, no spaces, ASCII. NaN, infinities and what JSON doesn't know are refused."""
    try:
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AnachronError(f"{data!r} can't be kept ({error}); a request and its reply are plain JSON data") from error


def key(request: Mapping[str, Any]) -> str:
    """64 hex digits."""
    return hashlib.sha256(canonical(request).encode("ascii")).hexdigest()


class Cache:
    """A context manager and a resource: `close` it, or use it in a `with`. Without a path it lives in memory only.

    Errors, of all methods: AnachronError for a file that is corrupt, not a cache, of another version, read-only, or
    locked by another process for more than a minute.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._lock = threading.RLock()  # callers may hand over entries from a thread of their own
        with self._guarded():
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                ":memory:" if path is None else path,
                timeout=_WAIT_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
        try:
            with self._guarded():
                self._set_up()
        except AnachronError:
            self._connection.close()
            raise

    def __enter__(self) -> "Cache":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is lost without it; it folds SQLite's log files into the one file."""
        with self._guarded():
            self._connection.close()

    def keep(self, entries: Sequence[Entry]) -> None:
        """All or none. Of two replies to one request the first stays. Once it returns, a kill loses nothing of it; a
        power cut may lose the last ones, never the file."""
        rows = [(key(e.request), *map(canonical, (e.request, e.reply, e.labels))) for e in entries]
        with self._guarded(), self._transaction():
            self._connection.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?, ?, ?)", rows)

    def find(self, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
        """The reply to each request; None for one that isn't here."""
        keys = [key(request) for request in requests]
        found: dict[str, dict[str, Any]] = {}
        wanted = list(dict.fromkeys(keys))
        with self._guarded():
            for begin in range(0, len(wanted), _AT_ONCE):
                part = wanted[begin : begin + _AT_ONCE]
                marks = ",".join("?" * len(part))
                rows = self._connection.execute(f"SELECT key, reply FROM entries WHERE key IN ({marks})", part)
                found.update((name, json.loads(reply)) for name, reply in rows)
        return [found.get(name) for name in keys]

    def entries(self) -> Iterator[Entry]:
        """All of them, in the order of their keeping."""
        with self._guarded():
            rows = self._connection.execute("SELECT request, reply, labels FROM entries ORDER BY rowid").fetchall()
        for row in rows:
            yield Entry(*map(json.loads, row))

    def __len__(self) -> int:
        with self._guarded():
            return self._connection.execute("SELECT count(*) FROM entries").fetchone()[0]

    def _set_up(self) -> None:
        run = self._connection.execute
        if self._header() == (0, 0):
            run("PRAGMA journal_mode = WAL")
            with self._transaction():  # of two processes that make the file, one finds it made
                if self._header() == (0, 0):
                    if run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                        raise AnachronError(f"{self._path}: a SQLite file of something else; name another file")
                    run(
                        "CREATE TABLE entries (key TEXT NOT NULL UNIQUE, request TEXT NOT NULL, reply TEXT NOT NULL, "
                        "labels TEXT NOT NULL)"
                    )
                    run(f"PRAGMA application_id = {_APPLICATION}")
                    run(f"PRAGMA user_version = {VERSION}")
        application, version = self._header()
        if application != _APPLICATION:
            raise AnachronError(f"{self._path}: a SQLite file of something else; name another file")
        if version != VERSION:
            raise AnachronError(
                f"{self._path}: a cache of version {version}, this is version {VERSION}; name another file, or use the "
                "release that wrote it"
            )
        # not FULL, which waits for the disk at every commit, some milliseconds an answer
        run("PRAGMA synchronous = NORMAL")

    def _header(self) -> tuple[int, int]:
        return tuple(
            self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """One thread at a time, and SQLite's errors as AnachronErrors."""
        with self._lock:
            try:
                yield
            except (OSError, sqlite3.OperationalError) as error:
                raise AnachronError(
                    f"{self._path}: can't be used as a cache ({error}); it may be read-only, on a full disk, or held "
                    "by another process"
                ) from error
            except (sqlite3.DatabaseError, ValueError, TypeError) as error:
                raise AnachronError(
                    f"{self._path}: not a whole cache file ({error}); it is damaged or no cache: name another file, or "
                    "restore a copy of it"
                ) from error
