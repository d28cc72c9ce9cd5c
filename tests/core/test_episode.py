"""Traces: sizes in bits, selections, round trips through files, means."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.artifact import read, write
from mnemotrace.core.bits import pack_bits, unpack_bits
from mnemotrace.core.episode import Entry, EpisodicTrace, MeanTrace


def _trace(b: int = 3, seed: int = 0) -> EpisodicTrace:
    g = torch.Generator().manual_seed(seed)
    strength = torch.rand(b, 2, 5, 5, generator=g)
    cells = torch.randint(9, (b, 2, 2, 2), generator=g).to(torch.uint8)
    return EpisodicTrace(
        (
            Entry("relu", "gate", strength > 0.5, "1", place=0, strength=strength),
            Entry("max_pool2d", "switch", cells, "2", cells=9, place=1, strength=strength[..., :2, :2]),
            Entry("softmax", "pattern", torch.rand(b, 4, 4, generator=g).half(), "3", place=2),
            Entry("layer_norm", "scale", torch.rand(b, 4, 1, generator=g).half(), "4", place=3),
        ),
        (1, 7, 7),
        {"b": b},
    )


@given(width=st.integers(1, 15), n=st.integers(0, 40), seed=st.integers(0, 2**31))
def test_packing_bits_and_unpacking_them_gives_the_numbers_back(width: int, n: int, seed: int) -> None:
    values = torch.randint(2**width, (n,), generator=torch.Generator().manual_seed(seed))
    stored = pack_bits(values, width)
    assert len(stored) == math.ceil(n * width / 8)
    assert torch.equal(unpack_bits(stored, width, (n,)), values)


def test_bits_are_one_a_gate_log2_of_the_cells_a_switch_and_16_a_number() -> None:
    bits = _trace().bits()
    assert bits == pytest.approx(
        {"gate": 50, "switch": 8 * math.log2(9), "pattern": 256, "scale": 64, "total": 370 + 8 * math.log2(9)}
    )


def test_a_sparse_entry_pays_for_which_units_were_kept() -> None:
    sparse = _trace().select(kinds=["gate"], top=0.2)
    assert sparse.bits()["gate"] == pytest.approx(10 + math.log2(math.comb(50, 10)))
    kept = sparse.entries[0].kept
    strength = _trace().entries[0].strength
    assert kept is not None and strength is not None
    assert (kept.flatten(1).sum(1) == 10).all()
    assert strength[0][kept[0]].min() > strength[0][~kept[0]].max()


@pytest.mark.parametrize("top", [None, 0.3])
def test_a_file_gives_the_trace_back_and_holds_no_more_than_the_bits(tmp_path: Path, top: float | None) -> None:
    trace = _trace().select(kinds=["gate", "switch"], top=top)
    found = EpisodicTrace.unpack(read(write(trace.pack(), tmp_path / "t")))
    for a, b in zip(trace.entries, found.entries, strict=True):
        assert torch.equal(a.values, b.values) and a.values.dtype == b.values.dtype
        assert (a.kept is None) == (b.kept is None) and (a.kept is None or torch.equal(a.kept, b.kept))
        assert (a.operation, a.kind, a.module, a.cells, a.place) == (b.operation, b.kind, b.module, b.cells, b.place)
    stored = sum(t.numel() for name, t in trace.pack().tensors.items() if name.endswith("values"))
    assert stored == math.ceil(3 * 50 / 8) + math.ceil(3 * 8 * 4 / 8)
    assert (found.input_shape, len(found)) == ((1, 7, 7), 3)


def test_rows_and_join_undo_each_other() -> None:
    trace = _trace()
    again = EpisodicTrace.join([trace[0], trace[[1, 2]]])
    assert all(torch.equal(a.values, b.values) for a, b in zip(trace.entries, again.entries, strict=True))
    assert len(trace[torch.tensor([True, False, True])]) == 2
    assert len(trace[-1]) == 1


def test_the_mean_of_classes_is_a_distribution_over_cells_and_the_rate_of_gates() -> None:
    trace = _trace(6)
    labels = torch.tensor([0, 0, 0, 2, 2, 2])
    mean = MeanTrace.fit([trace[:2], trace[2:]], labels=labels)
    found = mean.trace([2, 0])
    gate, switch = found.entries[0].values, found.entries[1].values
    assert torch.allclose(gate[1], trace.entries[0].values[:3].float().mean(0))
    assert torch.allclose(switch.sum(-1), torch.ones(2, 2, 2, 2))
    assert torch.allclose(switch[0, 0, 0, 0, 4], (trace.entries[1].values[3:, 0, 0, 0] == 4).float().mean())
    assert found.bits()["total"] == found.bits().get("gate", 0) + found.bits()["pattern"] + found.bits()["scale"]


def test_mistakes_are_told() -> None:
    trace = _trace()
    with pytest.raises(ValueError, match=r"got kinds=\['thing'\].*leave nothing.*gate relu"):
        trace.select(kinds=["thing"])
    with pytest.raises(ValueError, match="got top=2.0; expected a share"):
        trace.select(top=2.0)
    with pytest.raises(ValueError, match="without the strength of its units .*select first, save then"):
        trace.forgotten().select(top=0.5)
    with pytest.raises(ValueError, match="entries differ in operation or shape"):
        EpisodicTrace.join([trace, trace.select(kinds=["gate"])])
    with pytest.raises(ValueError, match="got 3 samples that fit together and 5 labels"):
        MeanTrace.fit([trace], labels=torch.zeros(5, dtype=torch.long))
    with pytest.raises(ValueError, match=r"got classes \[1\]; expected classes with samples, among \[0\]"):
        MeanTrace.fit([trace]).trace(1)
