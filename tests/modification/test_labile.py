"""A trace beside each row: windows, variances, and rows that others changed."""

import pytest
import torch

from mnemotrace.memories.patterns import Patterns
from mnemotrace.modification.changes import Saved, Trace
from mnemotrace.modification.labile import Labile

ROWS = torch.tensor([[0.0, 0.0], [4.0, 0.0], [9.0, 9.0]], dtype=torch.float64)
ONE = torch.ones(2, dtype=torch.float64)


def _labile(**settings: float) -> Labile:
    return Labile(Patterns(ROWS), ONE, **({"lability": 1.0, "window": 1.0, "drift": 0.0} | settings))


def test_a_trace_is_made_when_asked_for_and_follows_the_row() -> None:
    labile = _labile()
    assert torch.equal(labile.trace(1).mean, ROWS[1]) and labile.traces == {}
    labile.traces[1] = Trace(ROWS[1], 0.1 * ONE, 0.0, 0.0)
    assert torch.equal(labile.trace(1).variance, 0.1 * ONE)
    labile.patterns.values = ROWS + 1
    found = labile.trace(1)
    assert torch.equal(found.mean, ROWS[1] + 1) and torch.equal(found.variance, ONE) and found.reactivated == 0.0


def test_what_was_learnt_of_variance_counts_in_finding_the_nearest() -> None:
    labile, mask = _labile(), torch.ones(2, dtype=torch.bool)
    middle = torch.tensor([2.1, 0.0], dtype=torch.float64)
    assert labile.nearest(middle, mask, 0.1 * ONE, 0.0) == 1
    labile.traces[1] = Trace(ROWS[1], 0.01 * ONE, 0.0, 0.0)
    assert labile.nearest(middle, mask, 0.1 * ONE, 0.0) == 0


def test_a_row_is_put_into_new_tensors_and_restored_bit_by_bit() -> None:
    labile = _labile()
    held = labile.patterns.values
    saved = labile.write(1, ROWS[1] + 0.5, 0.5, None)
    assert torch.equal(held, ROWS) and float(labile.patterns.weights[1]) == 1.5
    labile.require_untouched([saved])
    labile.restore(saved)
    assert torch.equal(labile.patterns.values, ROWS) and float(labile.patterns.weights[1]) == 1.0
    labile.restore(Saved(None))


def test_the_last_memory_is_not_taken_out() -> None:
    labile = _labile()
    (handle,) = labile.patterns.add(ROWS[0])
    labile.patterns.remove([0, 1, 2])
    with pytest.raises(ValueError, match=r"got 1 memories to take out of 1; expected one to be left"):
        labile.require_untouched([Saved(handle, written=ROWS[0])])
