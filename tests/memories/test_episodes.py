"""A pointer finds its own trace, also from a damaged cue; a wrong one does not; files give the store back."""

from pathlib import Path

import pytest
import torch

from mnemotrace.core.artifact import read, write
from mnemotrace.core.episode import Entry, EpisodicTrace
from mnemotrace.memories.episodes import Episodes


def _pairs(n: int = 12, seed: int = 0) -> tuple[torch.Tensor, EpisodicTrace]:
    g = torch.Generator().manual_seed(seed)
    cells = torch.randint(4, (n, 3, 4, 4), generator=g).to(torch.uint8)
    gates = torch.rand(n, 10, generator=g) > 0.5
    entries = (Entry("relu", "gate", gates), Entry("max_pool2d", "switch", cells, cells=4, place=1))
    return torch.randn(n, 32, generator=g), EpisodicTrace(entries, (1, 8, 8), {"b": n})


def test_a_damaged_pointer_finds_its_own_trace_and_noise_finds_none_in_particular() -> None:
    pointers, trace = _pairs()
    store = Episodes(pointers, trace)
    cue = pointers.clone()
    cue[:, :8] = 0
    found = store.lookup(cue)
    assert found.handles.tolist() == list(range(12))
    assert all(torch.equal(a.values, b.values) for a, b in zip(found.trace.entries, trace.entries, strict=True))
    assert found.posterior.shape == (12, 12)
    assert found.similarity.min() > 0.7
    noise = store.lookup(torch.randn(50, 32, generator=torch.Generator().manual_seed(9)))
    assert noise.similarity.max() < 0.7


def test_adding_and_removing_leave_the_store_as_if_it_had_always_been_so() -> None:
    pointers, trace = _pairs()
    store = Episodes(pointers[:8], trace[:8], beta=1.0)
    handles = store.add(pointers[8:], trace[8:])
    store.remove([1, handles[0]])
    kept = [0, 2, 3, 4, 5, 6, 7, 9, 10, 11]
    assert len(store) == 10
    found = store.lookup(pointers[9])
    assert found.handles.tolist() == [handles[1]]
    assert torch.equal(found.trace.entries[1].values, trace[9].entries[1].values)
    assert torch.equal(store.trace.entries[0].values, trace[kept].entries[0].values)


def test_a_file_gives_the_store_back(tmp_path: Path) -> None:
    pointers, trace = _pairs()
    store = Episodes(pointers, trace, beta=2.0)
    store.remove(3)
    again = Episodes.unpack(read(write(store.pack(), tmp_path / "s")))
    a, b = store.lookup(pointers), again.lookup(pointers)
    assert torch.equal(a.posterior, b.posterior) and torch.equal(a.handles, b.handles)
    assert all(torch.equal(x.values, y.values) for x, y in zip(a.trace.entries, b.trace.entries, strict=True))


def test_bits_count_trace_and_pointer() -> None:
    bits = Episodes(*_pairs()).bits()
    assert bits == {"gate": 10, "switch": 96, "pointer": 32 * 32, "total": 10 + 96 + 1024}


def test_mistakes_are_told() -> None:
    pointers, trace = _pairs()
    with pytest.raises(ValueError, match=r"got pointers \(3, 32\) and a trace of 12 samples"):
        Episodes(pointers[:3], trace)
    with pytest.raises(TypeError, match="got a Tensor; expected an EpisodicTrace"):
        Episodes(pointers, pointers)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="got torch.int64 as pointers"):
        Episodes(pointers.long(), trace)
    with pytest.raises(KeyError, match="handle 99"):
        Episodes(pointers, trace).remove(99)
