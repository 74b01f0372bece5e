"""Stores on disk against `capture`, and interrupted, damaged or mistaken ones."""

import os
import signal

import pytest
import torch

from interp.capture import capture
from interp.errors import AnachronError
from interp.files import read_json, write_json
from interp.hooks import HookPoint
from interp.positions import ALL, ANSWER, LAST_PROMPT
from interp.prompts import Encoded
from interp.store import open_store, write_store
from tests.families import build

POINTS = [HookPoint(1), HookPoint(0, "mlp_out")]


def rows(shapes=((6, 3), (2, 1), (9, 0), (4, 5), (2, 2), (1, 7)), seed=0):
    """Encoded rows of (prompt length, answer length)."""
    generator = torch.Generator().manual_seed(seed)
    return [Encoded(tuple(torch.randint(6, 300, (p + a,), generator=generator).tolist()), p) for p, a in shapes]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("dtype", "torch_dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_a_store_holds_what_capture_returns(tmp_path, lm, dtype, torch_dtype):
    for positions, counts in ((ALL, (9, 3, 9, 9, 4, 8)), (ANSWER, (3, 1, 0, 5, 2, 7))):
        store = write_store(tmp_path / positions.name, lm, rows(), POINTS, positions, dtype=dtype, shard_rows=1000)
        expected = capture(lm, rows(), POINTS, positions)
        for point in POINTS:
            assert store.load(point).dtype == torch_dtype
            assert torch.equal(store.load(point), expected[point].to(torch_dtype))
        assert store.rows_per_prompt == counts and store.n == sum(counts) and store.d_model == 32
        assert store.prompts.tolist() == [i for i, count in enumerate(counts) for _ in range(count)]
        assert store.points == tuple(POINTS) and store.about["model"] == lm.name


@pytest.mark.parametrize(
    ("positions", "shard_rows", "sizes"),
    [
        (ALL, 12, [12, 9, 9, 12]),  # 9+3 | 9 | 9 | 4+8: the boundary exactly at a full shard
        (ALL, 11, [9, 3, 9, 9, 4, 8]),  # 9 and 3 no longer fit together
        (ALL, 5, [9, 3, 9, 9, 4, 8]),  # prompts longer than a shard have one of their own
        (ANSWER, 4, [4, 5, 2, 7]),  # the prompt without answer joins the shard before
        (LAST_PROMPT, 2, [2, 2, 2]),
        (ALL, 42, [42]),
    ],
)
def test_shards_end_between_prompts(tmp_path, lm, positions, shard_rows, sizes):
    store = write_store(tmp_path, lm, rows(), POINTS, positions, dtype="fp32", shard_rows=shard_rows)
    for point in POINTS:
        assert [len(shard) for shard in store.shards(point)] == sizes
        expected = capture(lm, rows(), POINTS, positions)[point]
        torch.testing.assert_close(store.load(point), expected, atol=1e-4, rtol=1e-4)
    assert len(contents(tmp_path)) == 1 + 2 * len(sizes)


def write(folder, lm, **changes):
    asked = {"encoded": rows(), "points": POINTS, "positions": ALL, "dtype": "bf16", "shard_rows": 12}
    return write_store(folder, lm, **{**asked, **changes})


@pytest.mark.parametrize("survivors", [0, 1, 3, 6])
def test_an_interrupted_store_resumes_to_the_same_bytes(tmp_path, lm, survivors, monkeypatch):
    write(tmp_path / "whole", lm)
    from interp import store

    written = []

    def save_then_stop(path, *args):
        if len(written) == survivors:
            raise KeyboardInterrupt
        written.append(path)
        store_save(path, *args)

    store_save = store.save_tensors
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store, "save_tensors", save_then_stop)
        write(tmp_path / "cut", lm)
    with pytest.raises(AnachronError, match=f"{8 - survivors - 1} more of 8 shards are missing"):
        open_store(tmp_path / "cut")
    times = {path: path.stat().st_mtime_ns for path in written}
    write(tmp_path / "cut", lm)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert times == {path: path.stat().st_mtime_ns for path in written}, "finished shards are left alone"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child computes and dies, it takes no lock
def test_a_writer_killed_while_it_writes_a_shard_resumes_to_the_same_bytes(tmp_path, lm):
    """SIGKILL in the middle of the third shard, whose temporary file stays behind."""
    child = os.fork()
    if child == 0:
        replace, seen = os.replace, []

        def kill_at_the_fourth(source, target):  # store.json and two shards come before
            seen.append(target)
            if len(seen) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = kill_at_the_fourth
        try:
            write(tmp_path / "cut", lm)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    left = contents(tmp_path / "cut")
    assert len(left) == 4 and any(name.startswith(".shard-") for name in left), sorted(left)
    write(tmp_path / "cut", lm)
    write(tmp_path / "whole", lm)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def flip_last_bit(path):
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("damage", [flip_last_bit, lambda path: path.write_bytes(path.read_bytes()[:-10])])
def test_a_corrupt_shard_is_named(tmp_path, lm, damage):
    store = write(tmp_path, lm)
    damage(tmp_path / "shard-00002.1.resid_post.safetensors")
    with pytest.raises(AnachronError, match=r"shard-00002\.1\.resid_post\.safetensors"):
        store.load(HookPoint(1))
    assert len(store.load(HookPoint(0, "mlp_out"))) == store.n
    with pytest.raises(AnachronError, match=r"shard-00002\.1\.resid_post\.safetensors"):
        write(tmp_path, lm)


def test_a_shard_in_the_place_of_another_is_named(tmp_path, lm):
    store = write(tmp_path, lm)
    (tmp_path / "shard-00001.1.resid_post.safetensors").write_bytes(
        (tmp_path / "shard-00000.1.resid_post.safetensors").read_bytes()
    )
    with pytest.raises(AnachronError, match=r"shard-00001\.1\.resid_post\.safetensors"):
        store.load(HookPoint(1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shard_rows": 11}, "other shard_rows"),
        ({"points": POINTS[:1]}, "other points"),
        ({"positions": ANSWER}, "other positions"),
        ({"dtype": "fp32"}, "other dtype"),
        ({"encoded": rows(seed=1)}, "other prompts_sha256"),
    ],
)
def test_another_request_is_not_mixed_in(tmp_path, lm, change, says):
    write(tmp_path, lm)
    before = contents(tmp_path)
    with pytest.raises(AnachronError, match=says):
        write(tmp_path, lm, **change)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_another_model_of_the_same_name_is_not_mixed_in(tmp_path, lm, dtype):
    write(tmp_path, lm, dtype=dtype)
    (tmp_path / "shard-00002.1.resid_post.safetensors").unlink()
    with pytest.raises(AnachronError, match="another model or adapter"):
        write(tmp_path, build("llama", seed=1), dtype=dtype)


def test_requests_that_make_no_store_are_refused(tmp_path, lm):
    for change, says in (
        ({"dtype": "fp16"}, "bf16 or fp32"),
        ({"shard_rows": 0}, "shard_rows"),
        ({"points": []}, "points"),
        ({"points": POINTS * 2}, "each once"),
        ({"encoded": rows([(4, 0)]), "positions": ANSWER}, "select nothing"),
        ({"points": [HookPoint(9)]}, "layers 0 to 2"),
    ):
        with pytest.raises(AnachronError, match=says):
            write(tmp_path / says, lm, **change)
    with pytest.raises(AnachronError, match=r"store\.json"):
        open_store(tmp_path / "nowhere")
    store = write(tmp_path / "store", lm)
    with pytest.raises(AnachronError, match=r"no 2\.resid_post; it holds 1\.resid_post, 0\.mlp_out"):
        store.load(HookPoint(2))
    about = read_json(tmp_path / "store" / "store.json")
    write_json(tmp_path / "store" / "store.json", {**about, "extra": 1})
    with pytest.raises(AnachronError, match="extra"):
        open_store(tmp_path / "store")
