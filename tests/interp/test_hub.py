"""Hub ids, against a server that speaks as much of the hub's protocol as its own client asks for.

The client runs in a process of its own, with the real settings: only there may it go out, and to this server.
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from interp.errors import AnachronError
from interp.hub import cached_id, is_hub_id, snapshot

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"a pickle",
    "modeling_own.py": b"raise SystemExit",
    "original/model.safetensors": b"another copy",
}
WANTED = ["*.json", "*.safetensors"]


class Hub(BaseHTTPRequestHandler):
    """One public repository, someone/tiny, and one gated: someone/gated, whose page anyone can read."""

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        self.server.asked.append(self.path)
        path = self.path.partition("?")[0]
        found = re.match(r"/(?:api/models/)?someone/(tiny|gated)(?=/|$)", path)
        rest = path[found.end() :] if found else None
        if not found:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
        elif path.startswith("/api/") and rest.startswith("/tree/"):
            tree = [{"type": "file", "path": name, "size": len(data), "oid": name} for name, data in FILES.items()]
            self.reply(200, json.dumps(tree).encode(), {}, body)
        elif path.startswith("/api/"):
            self.reply(200, json.dumps({"id": f"someone/{found[1]}", "sha": COMMIT, "siblings": []}).encode(), {}, body)
        elif found[1] == "gated":
            self.reply(403, b"{}", {"X-Error-Code": "GatedRepo"}, body)
        else:
            name = rest.removeprefix(f"/resolve/{COMMIT}/")
            self.reply(200, FILES[name], {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}, body)

    def reply(self, code, data, headers, body):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


CLIENT = """
import json, sys, time
from pathlib import Path
from interp.errors import AnachronError
from interp.hub import snapshot

def check(folder):
    if not (folder / "config.json").is_file():
        raise AnachronError(f"{folder}: no config.json")

begin = time.perf_counter()
try:
    folder, commit = snapshot(sys.argv[1], sys.argv[2] or None, json.loads(sys.argv[3]), check)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    answer = {"commit": commit, "files": files}
except AnachronError as error:
    answer = {"error": str(error)}
print(json.dumps(answer | {"seconds": time.perf_counter() - begin}))
"""


def ask(port, home, name, revision="", files=WANTED):
    """What `snapshot` gives a process whose hub is at this port and whose cache lies in `home`."""
    environment = {k: v for k, v in os.environ.items() if "PROXY" not in k.upper() and not k.startswith("HF_")}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, name, revision, json.dumps(files)],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_download_pins_the_commit_and_takes_only_what_is_read(hub, tmp_path):
    first = ask(hub.server_port, tmp_path, "someone/tiny")
    assert first["commit"] == COMMIT
    # no pickles, no code, no second copy of the weights
    assert first["files"] == ["config.json", "model.safetensors"]
    hub.asked.clear()
    again = ask(hub.server_port, tmp_path, "someone/tiny")
    assert (again["commit"], hub.asked) == (COMMIT, [])
    pinned = ask(hub.server_port, tmp_path, "someone/tiny", COMMIT)
    assert (pinned["commit"], hub.asked) == (COMMIT, [])


@pytest.mark.parametrize("name", ["someone/gated", "someone/nowhere"])
def test_refusals_of_the_hub_are_told(hub, tmp_path, name):
    found = ask(hub.server_port, tmp_path, name)
    assert re.search(r"(Gated|RepositoryNotFound|LocalEntryNotFound)\w*Error.*log in if it is gated", found["error"])
    assert found["seconds"] < 6


def test_a_download_that_lacks_a_part_is_what_the_check_says(hub, tmp_path):
    assert "no config.json" in ask(hub.server_port, tmp_path, "someone/tiny", files=["*.safetensors"])["error"]


def test_a_hub_that_refuses_connections_fails_at_once(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # not listening
        found = ask(closed.getsockname()[1], tmp_path, "someone/tiny")
    assert re.search(r"Connect\w*.*; give a local folder, or connect", found["error"])
    assert found["seconds"] < 6


def test_a_hub_that_hangs_is_given_up_on(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # takes connections and never answers
        found = ask(silent.getsockname()[1], tmp_path, "someone/tiny")
    assert "Time" in found["error"] and "; give a local folder, or connect" in found["error"]
    assert found["seconds"] < 6


def test_offline_is_told_at_once():
    """This process is offline by HF_HUB_OFFLINE."""
    begin = time.perf_counter()
    with pytest.raises(AnachronError, match="unset HF_HUB_OFFLINE"):
        snapshot("someone/tiny", None, WANTED, lambda folder: None)
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize(
    ("name", "possible"),
    [("gpt2", True), ("a/b", True), ("Qwen/Qwen2.5-0.5B", True), ("a/b/c", False), ("./a", False), ("", False)],
)
def test_what_can_be_a_hub_id(name, possible):
    assert is_hub_id(name) == possible


def test_the_id_of_a_cached_snapshot(tmp_path):
    folder = tmp_path / "models--some-one--tiny.model" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    assert cached_id(folder) == "some-one/tiny.model"
    assert cached_id(tmp_path) is None
    assert cached_id("almanac") is None
