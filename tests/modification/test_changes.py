"""A log goes into a file and comes back with every bit that undoing needs."""

import torch

from mnemotrace.modification.changes import Change, Saved, Trace, pack_log, pack_traces, unpack_log, unpack_traces

ROW = torch.randn(3, dtype=torch.float64)
TRACE = Trace(ROW, ROW.abs(), None, 2.0)


def test_a_log_and_its_bits_come_back() -> None:
    mask = torch.tensor([True, False, True])
    log = [
        Change(0.0, "ignored", None, observed=ROW, mask=mask, bounds=(1.0, 2.0)),
        Change(1.0, "updated", 4, 1.5, ROW, ROW + 1, ROW, mask, (1.0, 2.0), 0.5, {4: 0.9, "new": 0.1}, 4, "moved"),
    ]
    saved = [Saved(None), Saved(4, ROW.half(), torch.tensor(1.0), ROW.half() + 1, TRACE)]
    header, tensors = pack_log(log, saved)
    again, kept = unpack_log(header, tensors)
    assert again[0].surprise is None and again[0].before is None and again[0].regime == "ignored"
    assert again[1].causes == log[1].causes and again[1].bounds == (1.0, 2.0) and again[1].note == "moved"
    assert again[1].mask is not None and torch.equal(again[1].mask, mask)
    assert kept[0].handle is None and kept[0].row is None and kept[0].trace is None
    assert kept[1].row is not None and kept[1].row.dtype == torch.float16 and torch.equal(kept[1].row, ROW.half())
    assert kept[1].trace is not None and kept[1].trace.changed is None and kept[1].trace.reactivated == 2.0


def test_traces_come_back_and_none_is_nothing() -> None:
    again = unpack_traces(*pack_traces({7: TRACE, 3: Trace(ROW + 1, ROW.abs() + 1, 1.0, None)}))
    assert list(again) == [7, 3] and again[3].changed == 1.0 and torch.equal(again[3].mean, ROW + 1)
    assert again[7].reactivated == 2.0 and torch.equal(again[7].variance, ROW.abs())
    assert unpack_traces(*pack_traces({})) == {}
