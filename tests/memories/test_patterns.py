"""A store forgets as if it had never known, keeps handles, and reads rows from a file part by part."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mnemotrace.core.artifact import read, write
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.memories.lookup import lookup
from mnemotrace.memories.patterns import Patterns

ONE = torch.ones(1, 1)


def _rows(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(n=st.integers(1, 20), changes=st.lists(st.tuples(st.sampled_from("arw"), st.integers(0, 99)), max_size=12))
def test_a_store_after_any_changes_is_that_of_what_is_left(n: int, changes: list[tuple[str, int]]) -> None:
    store = Patterns(_rows(n))
    expected = {handle: (row, 1.0) for handle, row in enumerate(_rows(n))}
    for what, number in changes:
        handle = list(expected)[number % len(expected)]
        if what == "a":
            new = _rows(2, seed=number)
            for given_handle, row in zip(store.add(new, weight=number + 1), new, strict=True):
                assert given_handle not in expected
                expected[given_handle] = (row, number + 1.0)
        elif what == "w":
            store.reweight(handle, number + 0.5)
            expected[handle] = (expected[handle][0], number + 0.5)
        elif len(expected) > 1:
            store.remove(handle)
            del expected[handle]
    assert store.handles.tolist() == list(expected)
    assert torch.equal(store.values, torch.stack([row for row, _ in expected.values()]))
    assert store.weights.tolist() == [weight for _, weight in expected.values()]
    assert torch.equal(store.squares, store.values.square().sum(1))


def test_handles_are_never_given_twice() -> None:
    store = Patterns(_rows(3))
    assert store.add(_rows(1)) == [3]
    store.remove([3, 0])
    assert store.add(_rows(2)) == [4, 5]
    assert store.handles.tolist() == [1, 2, 4, 5]
    assert store.rows([5, 1]).tolist() == [3, 0]
    assert len(store) == 4
    assert store.d == 3


def test_squares_follow_every_change_of_the_rows() -> None:
    store = Patterns(_rows(5))
    first = store.squares
    assert store.squares is first
    with torch.no_grad():
        store.values.mul_(2)
    assert torch.allclose(store.squares, 4 * first)
    store.load_state_dict({**store.state_dict(), "values": _rows(5, seed=1)})
    assert torch.allclose(store.squares, _rows(5, seed=1).square().sum(1))
    store.float()
    assert store.squares.dtype == torch.float32
    with torch.inference_mode():
        assert torch.equal(Patterns(_rows(5)).squares, first)


def test_half_precision_rows_have_wide_weights_and_squares() -> None:
    store = Patterns(_rows(5).half())
    assert store.values.dtype == torch.float16
    assert store.weights.dtype == store.squares.dtype == torch.float32
    store.reweight(0, 0.1)
    assert float(store.weights[0]) == pytest.approx(0.1, rel=1e-7)


def test_log_weights_are_absent_where_all_count_once() -> None:
    store = Patterns(_rows(3))
    assert store.log_weights is None
    store.reweight([1], 2.0)
    assert store.log_weights is not None
    assert store.log_weights.tolist() == pytest.approx([0, np.log(2), 0])
    assert store.log_weights is store.log_weights
    store.weights.mul_(2)
    assert store.log_weights.tolist() == pytest.approx(np.log([2, 4, 2]).tolist())


@given(n=st.integers(1, 8), d=st.integers(1, 4), kind=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
def test_a_store_survives_a_round_trip(tmp_path_factory: Any, n: int, d: int, kind: torch.dtype) -> None:
    store = Patterns(_rows(n, d).to(kind), weights=_rows(n, 1)[:, 0].exp())
    store.remove(store.add(_rows(2, d))[0])
    path = write(store.pack(), tmp_path_factory.mktemp("store") / "a.safetensors")
    back = Patterns.unpack(read(path, "patterns"))
    assert all(torch.equal(a, b) for a, b in zip(store.buffers(), back.buffers(), strict=True))
    assert store.add(_rows(1, d)) == back.add(_rows(1, d))


class _Largest(TorchDispatchMode):
    """The largest tensor, in bytes, that torch makes while this is on."""

    def __init__(self) -> None:
        super().__init__()
        self.nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        known = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in known:
                self.nbytes = max(self.nbytes, tensor.untyped_storage().nbytes())
        return made


def test_a_store_larger_than_the_budget_is_opened_and_asked_in_parts(tmp_path: Path) -> None:
    n, d, budget = 50_000, 64, 1 << 20  # 13 MB of rows; the scores of 100 states would be 20 MB
    rows = np.lib.format.open_memmap(tmp_path / "rows.npy", mode="w+", dtype=np.float32, shape=(n, d))
    rows[:] = _rows(n, d).numpy()
    del rows
    with _Largest() as made:
        store = Patterns.open(tmp_path / "rows.npy")
        states, squares = store.values[:100] + 0.1, store.squares
        found = lookup(states, store.values, 100 * ONE, squares=squares, memory=budget)
        assert made.nbytes <= budget
        exact = lookup(states, store.values, 100 * ONE, squares=squares, path="dense")
        assert made.nbytes > 10 * budget
    assert torch.allclose(found.mean, exact.mean, atol=1e-5)


@pytest.mark.parametrize("saved", ["numpy", "ours"])
def test_rows_stay_in_the_file_until_they_are_used(tmp_path: Path, saved: str) -> None:
    """What changes in the file after it was opened is seen: nothing was read into memory."""
    path = tmp_path / "rows"
    if saved == "numpy":
        with path.open("wb") as file:
            np.save(file, np.full((100, 3), 2, dtype=np.float32))
        store = Patterns.open(path)
    else:
        write(Patterns(torch.full((100, 3), 2.0)).pack(), path)
        store = Patterns.unpack(read(path, "patterns"))
    content = path.read_bytes()
    place = content.index(np.full(300, 2, dtype=np.float32).tobytes())
    with path.open("r+b") as file:
        file.seek(place + 50 * 12)
        file.write(np.array([5.0], dtype=np.float32).tobytes())
    assert store.values[50].tolist() == [5, 2, 2]


def test_a_file_is_never_written(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((4, 3), dtype=np.float32))
    written = (tmp_path / "rows.npy").read_bytes()
    store = Patterns.open(tmp_path / "rows.npy", weights=torch.tensor([1.0, 2, 3, 4]))
    store.values[0] = 5
    store.add(torch.zeros(3))
    assert (tmp_path / "rows.npy").read_bytes() == written
    assert store.weights.tolist() == [1, 2, 3, 4, 1]


def test_files_that_are_no_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Patterns.open(tmp_path / "nothing.npy")
    path = tmp_path / "a.npy"
    path.write_text("words")
    with pytest.raises(ValueError, match=r"a.npy \(.*expected a .npy file of rows \(n, d\); write it by numpy.save"):
        Patterns.open(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="expected a .npy file of rows"):
        Patterns.open(path)
    np.savez(tmp_path / "b.npz", np.ones(3))
    with pytest.raises(ValueError, match="b.npz with several arrays; expected a .npy file of rows"):
        Patterns.open(tmp_path / "b.npz")
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="expected a .npy file of rows"):
        Patterns.open(path)
    np.save(path, np.ones((2, 3), dtype=np.int64))
    with pytest.raises(TypeError, match=r"got a tensor of torch.int64 as patterns"):
        Patterns.open(path)
    np.save(path, np.ones(3))
    with pytest.raises(ValueError, match=r"got patterns \(3,\); expected a tensor of shape \(n, d\)"):
        Patterns.open(path)


def test_bad_patterns_and_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got patterns list; expected a tensor of shape \(n, d\)"):
        Patterns([[1.0]])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"got patterns of shape \(0, 3\)"):
        Patterns(torch.zeros(0, 3))
    with pytest.raises(TypeError, match="got a tensor of torch.int64 as patterns"):
        Patterns(torch.ones(2, 3, dtype=torch.int64))
    late = torch.zeros(10_000, 2)
    late[9_999, 1] = float("nan")
    with pytest.raises(NonFiniteError, match="got 1 non-finite of .* in the patterns"):
        Patterns(late)
    store = Patterns(_rows(3))
    for weight in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="finite and above 0; remove a pattern that should not count"):
            store.reweight(1, weight)
        with pytest.raises(ValueError, match="finite and above 0"):
            store.add(_rows(1), weight=weight)
    with pytest.raises(ValueError, match=r"got weights of shape \(2,\), from 1; expected \(3,\)"):
        Patterns(_rows(3), weights=torch.ones(2))
    with pytest.raises(ValueError, match=r"expected \(3,\) or \(b, 3\)"):
        store.add(torch.ones(2))
    with pytest.raises(KeyError, match="handle 7, which is not among the 3 stored patterns"):
        store.remove([0, 7])
    with pytest.raises(ValueError, match="got all 3 handles to remove; expected to keep at least one"):
        store.remove([0, 1, 2])
    assert len(store) == 3
