"""Whole or absent files, and errors that name them."""

import hashlib
import os
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from interp.errors import AnachronError
from interp.files import atomic, digest, load_tensors, read_json, save_tensors, write_json, write_text


def test_an_interrupted_write_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic(path) as temporary:
        temporary.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    code = (
        "import os\nfrom interp.files import atomic\n"
        f"with atomic({str(path)!r}) as temporary:\n    temporary.write_text('ne')\n    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert path.read_text() == "old"


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "deep" / "er" / "a.json"
    write_json(path, [1])
    with atomic(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".json"
        temporary.write_text("[2]")
        assert read_json(path) == [1]
    assert read_json(path) == [2]
    assert os.listdir(path.parent) == ["a.json"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "a.txt"):
        pass
    assert not os.listdir(tmp_path)


def test_files_are_as_readable_as_any(tmp_path):
    write_text(tmp_path / "a.txt", "x")
    (tmp_path / "b.txt").write_text("x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_json_form(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": ["é", 0.5]})
    assert path.read_bytes() == '{\n "b": 1,\n "a": [\n  "é",\n  0.5\n ]\n}\n'.encode()
    assert list(read_json(path)) == ["b", "a"]


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), {1, 2}, torch.zeros(1)])
def test_json_refuses_what_it_cannot_say_and_keeps_the_old_file(tmp_path, value):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(AnachronError, match=r"a\.json: can't be written as JSON"):
        write_json(path, {"x": value})
    assert read_json(path) == 1
    assert os.listdir(tmp_path) == ["a.json"]


def test_json_errors_name_file_and_line(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(AnachronError, match=r"a\.json: no such file"):
        read_json(path)
    path.write_text('{\n "a": 1,\n "b"')
    with pytest.raises(AnachronError, match=r"a\.json:3: not JSON .*truncated"):
        read_json(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(AnachronError, match=r"a\.json: can't be read"):
        read_json(path)
    with pytest.raises(AnachronError, match="can't be read"):
        read_json(tmp_path)


def test_tensors_round_trip_with_the_same_bytes(tmp_path):
    tensors = {"b": torch.randn(3, 4).T, "a": torch.arange(3), "c": torch.zeros(2, dtype=torch.bfloat16)}
    save_tensors(tmp_path / "1.safetensors", tensors, {"y": "1", "x": "2"})
    save_tensors(tmp_path / "2.safetensors", dict(reversed(tensors.items())), {"x": "2", "y": "1"})
    assert digest(tmp_path / "1.safetensors") == digest(tmp_path / "2.safetensors")
    loaded, metadata = load_tensors(tmp_path / "1.safetensors")
    assert metadata == {"x": "2", "y": "1"}
    assert all(torch.equal(loaded[k], tensors[k]) and loaded[k].dtype == tensors[k].dtype for k in tensors)
    save_tensors(tmp_path / "3.safetensors", {"a": torch.zeros(1)}, {})
    assert load_tensors(tmp_path / "3.safetensors")[1] == {}


def test_same_bytes_in_every_process(tmp_path):
    """safetensors' own writer orders metadata by a hash that differs from call to call."""
    metadata = {f"schlüssel {i}": "é" * i for i in range(8)}
    code = "import sys, torch\nfrom interp.files import save_tensors\n"
    code += f"save_tensors(sys.argv[1], {{'a': torch.ones(2)}}, {metadata!r})\n"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "other")], check=True)
    save_tensors(tmp_path / "here", {"a": torch.ones(2)}, metadata)
    assert digest(tmp_path / "other") == digest(tmp_path / "here")
    assert load_tensors(tmp_path / "here")[1] == metadata
    with safe_open(tmp_path / "here", framework="pt") as opened:
        assert opened.metadata() == metadata


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_tensors_are_refused_by_name(tmp_path, bad):
    path = tmp_path / "a.safetensors"
    tensors = {"fine": torch.ones(2), "broken": torch.tensor([1.0, bad, bad])}
    with pytest.raises(AnachronError, match=r"tensor 'broken' holds 2 NaN or infinite values of 3"):
        save_tensors(path, tensors, {})
    assert not path.exists()
    from safetensors.torch import save_file

    save_file(tensors, path)
    with pytest.raises(AnachronError, match=r"a\.safetensors: tensor 'broken'"):
        load_tensors(path)


@pytest.mark.parametrize("kept", [0, 4, 60, -1])
def test_truncated_tensors_are_refused_by_file(tmp_path, kept):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": torch.ones(100)}, {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(AnachronError, match=r"a\.safetensors: not a whole safetensors file"):
        load_tensors(path)
    path.unlink()
    with pytest.raises(AnachronError, match=r"a\.safetensors: no such file"):
        load_tensors(path)


def test_digest(tmp_path):
    assert digest(b"abc") == hashlib.sha256(b"abc").hexdigest()
    (tmp_path / "a").write_bytes(b"abc")
    assert digest(tmp_path / "a") == digest(str(tmp_path / "a")) == digest(b"abc")
    with pytest.raises(AnachronError, match="can't be read"):
        digest(tmp_path / "b")
