"""A chat-completions endpoint on this machine that does what a script says: answers, late ones, errors, rubbish.

    with StubEndpoint([Reply(status=429, headers={"Retry-After": "1"}), Reply("yes")]) as stub:
        EndpointAnswerer("m", stub.url).answer(...)
    assert len(stub.requests) == 2

A script is a list (request i gets reply i, later ones the last) or a function from the Request to a Reply or a text.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """The `number`-th request (from 0, in the order of arrival), with the time it came (`time.monotonic`). Names of
    headers are in lower case."""

    number: int
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    time: float

    @property
    def text(self) -> str:
        """The last message."""
        return self.body["messages"][-1]["content"]


@dataclass(frozen=True)
class Reply:
    """What is sent back after `delay` seconds.

    By default a chat completion of `text`, 10 prompt and 3 completion tokens; with another status an error object of
    that text. `body` replaces the JSON object. `cut` sends only so many bytes as if they were all; `hang_up` announces
    all bytes, sends half and closes the connection.
    """

    text: str | None = "yes"
    status: int = 200
    delay: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    cut: int | None = None
    hang_up: bool = False


Script = Sequence[Reply | str] | Callable[[Request], Reply | str]


def echo(request: Request) -> Reply:
    """An answer that tells which prompt and seed it belongs to."""
    asked = json.dumps([request.body["model"], request.body["messages"], request.body.get("seed")])
    return Reply(f"{request.text} -> {hashlib.sha256(asked.encode()).hexdigest()[:8]}")


class StubEndpoint:
    """Listens on a free port of this machine while the context is open. `requests` are those that came, `answered` how
    many got a whole reply, `most_at_once` the highest number in progress together."""

    def __init__(self, script: Script = echo) -> None:
        self.requests: list[Request] = []
        self.answered = 0
        self.most_at_once = 0
        self._at_once = 0
        self._script = script
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "StubEndpoint":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else every reply of a kept connection waits 40 ms for an acknowledgement

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                with stub._lock:
                    number = len(stub.requests)
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    request = Request(number, self.path, headers, json.loads(raw), time.monotonic())
                    stub.requests.append(request)
                    stub._at_once += 1
                    stub.most_at_once = max(stub.most_at_once, stub._at_once)
                try:
                    script = stub._script
                    reply = script(request) if callable(script) else script[min(number, len(script) - 1)]
                    reply = Reply(reply) if isinstance(reply, str) else reply
                    time.sleep(reply.delay)
                finally:
                    with stub._lock:
                        stub._at_once -= 1
                self._send(reply, request)

            def _send(self, reply: Reply, request: Request) -> None:
                content = json.dumps(_content(reply, request) if reply.body is None else reply.body).encode()
                content = content[: reply.cut]
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if reply.hang_up else content)
                self.close_connection = self.close_connection or reply.hang_up
                with stub._lock:
                    stub.answered += not reply.hang_up

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """A client that was killed or gave up is part of the test."""


def _content(reply: Reply, request: Request) -> dict[str, Any]:
    if reply.status != 200:
        return {"error": {"message": reply.text, "type": "stub", "code": None}}
    return {
        "id": f"stub-{request.number}",
        "object": "chat.completion",
        "created": 0,
        "model": request.body["model"],
        "choices": [
            {"index": i, "message": {"role": "assistant", "content": reply.text}, "finish_reason": "stop"}
            for i in range(request.body.get("n") or 1)
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
    }
