"""Retrieval opens a memory, surprise decides what becomes of it, and every bit can be taken back."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.memories.dense import DenseMemory
from mnemotrace.memories.diffusion import DiffusionMemory
from mnemotrace.memories.hopfield import Hopfield
from mnemotrace.memories.modern import ModernHopfield
from mnemotrace.memories.patterns import Patterns
from mnemotrace.modification.reconsolidation import Reconsolidation
from mnemotrace.modification.surprise import chi_square_quantile

D = 4


def _rows(n: int = 5, d: int = D, seed: int = 0) -> Tensor:
    return 4 * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _signs(n: int = 3, d: int = 16) -> Tensor:
    return torch.where(torch.randn(n, d, generator=torch.Generator().manual_seed(1)) < 0, -1.0, 1.0)


def _bits(one: Reconsolidation) -> dict[str, Tensor]:
    return {name: getattr(one.patterns, name).clone() for name in ("values", "weights", "handles", "following")}


def _equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    """Compare bits: zeros have signs."""
    return all(torch.equal(one[n], two[n]) and torch.equal(one[n].signbit(), two[n].signbit()) for n in one)


def _away(surprise: float, d: int = D, total: float = 2.0) -> Tensor:
    """Return an error of a squared surprise, in equal parts, for P + R = total."""
    return torch.full((d,), math.sqrt(surprise * total / d), dtype=torch.float64)


def test_equal_trust_meets_half_way_and_halves_the_variance() -> None:
    memory = Reconsolidation(DiffusionMemory(_rows()))
    handle = memory.retrieve(_rows()[1], time=0.0)
    seen = _rows()[1] + _away(9.0)
    change = memory.observe(seen, time=0.0)
    assert change.regime == "updated" and change.handle == handle == 1 and change.surprise == pytest.approx(9.0)
    assert float((memory.patterns.values[1] - (_rows()[1] + seen) / 2).abs().max()) <= 1e-9
    assert torch.equal(memory.variance(1), torch.full((D,), 0.5).double())
    assert change.before is not None and torch.equal(change.before, _rows()[1])
    assert change.after is not None and torch.equal(change.after, memory.patterns.values[1])


@pytest.mark.parametrize(
    ("share", "regime"),
    [(0.0, "strengthened"), (0.49, "strengthened"), (0.51, "updated"), (0.994, "updated"), (0.996, "stored")],
)
@pytest.mark.parametrize("masked", [False, True])
def test_regimes_go_by_the_quantiles_of_what_was_observed(share: float, regime: str, masked: bool) -> None:
    mask = torch.tensor([True, True, False, False]) if masked else torch.ones(D, dtype=torch.bool)
    memory = Reconsolidation(Patterns(_rows()))
    memory.retrieve(0, time=0.0)
    features = int(mask.sum())
    error = _away(chi_square_quantile(share, features), features)[0]
    change = memory.observe(_rows()[0] + error, mask=mask, time=0.0)
    assert change.regime == regime
    assert len(memory.patterns) == 5 + (regime == "stored")
    moved = not torch.equal(memory.patterns.values[0], _rows()[0])
    assert moved == (regime == "updated")
    assert float(memory.patterns.weights[0]) == (1.0 if regime == "stored" else 2.0)
    narrowed = memory.variance(0) < 1
    assert torch.equal(narrowed, mask if regime != "stored" else torch.zeros_like(mask))


def test_without_retrieval_nothing_changes_and_the_log_says_so() -> None:
    memory = Reconsolidation(Patterns(_rows()))
    before = _bits(memory)
    change = memory.observe(_rows()[0] + 1, time=0.0)
    assert change.regime == "ignored" and change.handle is None and change.surprise is None
    assert "no memory was labile" in change.note and memory.log == (change,) and _equal(before, _bits(memory))


def test_the_window_closes_exponentially_and_then_shuts() -> None:
    memory = Reconsolidation(Patterns(_rows()), lability=0.8, window=2.0)
    memory.retrieve(0, time=1.0)
    assert memory.labile(1.0) == {0: 0.8} and memory.labile(0.5) == {}
    assert memory.labile(3.0)[0] == pytest.approx(0.8 / math.e)
    change = memory.observe(_rows()[0] + 2, time=3.0)
    gain = 0.8 / math.e
    assert change.gain == pytest.approx(gain) and torch.allclose(memory.content(0), _rows()[0] + gain)
    assert memory.labile(1 + 2 * 4.7) == {}
    assert memory.observe(_rows()[0] + 2, time=20.0).regime == "ignored"


def test_the_likelier_of_two_labile_memories_takes_the_observation() -> None:
    rows = torch.tensor([[0.0, 0.0], [3.0, 0.0], [50.0, 50.0]], dtype=torch.float64)
    memory = Reconsolidation(Patterns(rows))
    for handle in (0, 1):
        memory.retrieve(handle, time=0.0)
    near, even = torch.tensor([2.6, 1.8]).double(), torch.tensor([1.5, 1.0]).double()
    assert memory.observe(near, time=0.0).handle == 1
    memory.undo()
    change = memory.observe(even, time=0.0)
    assert change.causes[0] == pytest.approx(change.causes[1]) and sum(change.causes.values()) == pytest.approx(1)
    memory.undo()
    memory.patterns.reweight(0, 9.0)
    assert memory.observe(even, time=0.0).causes[0] > 0.85


def test_alpha_lets_a_new_cause_win_within_the_bounds() -> None:
    def regime(alpha: float) -> str:
        memory = Reconsolidation(Patterns(_rows()), alpha=alpha, prior=(_rows()[0] + 3, 1.0))
        memory.retrieve(0, time=0.0)
        return memory.observe(_rows()[0] + _away(chi_square_quantile(0.99, D)), time=0.0).regime

    assert [regime(a) for a in (0.0, 1e-4, 1.0)] == ["updated", "updated", "stored"]


def test_a_new_memory_takes_what_was_not_observed_from_the_prior_and_is_labile() -> None:
    memory = Reconsolidation(Patterns(_rows()), noise=0.5, prior=(7.0, 2.0))
    memory.retrieve(0, time=0.0)
    mask = torch.tensor([True, False, True, True])
    change = memory.observe(_rows()[0] + 30, mask=mask, time=1.0)
    assert change.regime == "stored" and change.handle == 5 and change.compared == 0 and change.causes["new"] == 1.0
    assert float(memory.content(5)[1]) == 7.0 and memory.variance(5).tolist() == [0.5, 2.0, 0.5, 0.5]
    assert set(memory.labile(1.0)) == {0, 5}
    assert memory.observe(_rows()[0] + 30, mask=mask, time=1.0).handle == 5


def test_surprise_from_elsewhere_decides_the_regime() -> None:
    def regime(surprise: float) -> str:
        memory = Reconsolidation(Patterns(_rows()))
        memory.retrieve(0, time=0.0)
        return memory.observe(_rows()[0] + 0.1, time=0.0, surprise=surprise).regime

    nats = [-math.log(p) for p in (0.51, 0.49, 0.006, 0.004, 1e-300)]
    assert [regime(s) for s in nats] == ["strengthened", "updated", "updated", "stored", "stored"]


def test_drift_is_the_filter_of_a_random_walk() -> None:
    memory = Reconsolidation(Patterns(torch.zeros(1, 1).double()), drift=0.5, quantiles=(0.0, 0.999), window=1e9)
    p, y = 1.0, 0.0
    assert float(memory.variance(0, time=9.0)) == 1.0
    memory.retrieve(0, time=0.0)
    for time, seen in enumerate((0.5, 0.8, 1.6), 1):
        memory.observe(torch.tensor([seen]).double(), time=time)
        p += 0.5
        y, p = y + p / (p + 1) * (seen - y), p / (p + 1)
    assert float(memory.content(0)) == pytest.approx(y, abs=1e-7) and float(memory.variance(0)) == pytest.approx(p)
    assert float(memory.variance(0, time=5.0)) == pytest.approx(p + 1)


def test_a_cue_finds_the_likeliest_memory_by_what_it_has() -> None:
    memory = Reconsolidation(Patterns(_rows()))
    mask = torch.tensor([True, False, False, False])
    cue = torch.where(mask, _rows()[3], torch.nan)
    assert memory.retrieve(cue, time=0.0, mask=mask) == 3
    assert memory.retrieve(_rows()[2] + 0.1, time=0.0) == 2
    assert [c.regime for c in memory.log] == ["retrieved"] * 2


_ACTS = st.lists(st.tuples(st.sampled_from("rosmp"), st.integers(0, 4), st.floats(0, 5)), min_size=1, max_size=10)


@settings(max_examples=10, deadline=None)
@given(acts=_ACTS, precision=st.sampled_from([torch.float64, torch.float32, torch.float16]))
def test_undo_gives_every_bit_back_and_leaves_the_unretrieved_alone(acts: list[Any], precision: torch.dtype) -> None:
    start = _rows().to(precision)
    start[0, 0] = -0.0
    memory = Reconsolidation(Patterns(start))
    before, touched = _bits(memory), set[int]()
    for time, (what, handle, size) in enumerate(acts):
        if what == "r":
            touched.add(memory.retrieve(handle, time=time))
        elif what == "p":
            memory = Reconsolidation.unpack(memory.pack())
        else:
            mask = torch.tensor([True, False, True, True]) if what == "m" else None
            memory.observe(_rows()[handle] + size, time=time, mask=mask, surprise=size if what == "s" else None)
    for row in set(range(5)) - touched:
        assert torch.equal(memory.patterns.values[row], before["values"][row])
        assert float(memory.patterns.weights[row]) == 1.0
    if memory.log:
        undone = memory.undo(len(memory.log))
        assert [c.time for c in undone] == sorted((c.time for c in undone), reverse=True)
    assert _equal(before, _bits(memory)) and memory.log == () and memory.labile(1e-9) == {}


def test_memories_of_signs_keep_their_mean_and_flip_when_it_crosses() -> None:
    for memory in (Hopfield(_signs()), DenseMemory(_signs())):
        plastic = Reconsolidation(memory, quantiles=(0.0, 0.999))
        energy, first = memory.energy(_signs()), _signs()[0]
        plastic.retrieve(first, time=0.0)
        seen = torch.cat([-first[:2], first[2:]])
        change = plastic.observe(seen, time=0.0)
        assert change.regime == "updated" and torch.equal(plastic.content(0)[:2], torch.zeros(2).double())
        plastic.observe(seen, time=0.0)
        assert torch.equal(plastic.patterns.values[0], seen)
        assert not torch.allclose(memory.energy(_signs()), energy)
        plastic.undo(3)
        assert torch.equal(memory.energy(_signs()), energy) and torch.equal(plastic.patterns.values, _signs())


def test_the_memory_recalls_what_was_learnt_at_once() -> None:
    memory = ModernHopfield(_rows(), beta=20.0)
    plastic = Reconsolidation(memory)
    plastic.retrieve(2, time=0.0)
    plastic.observe(_rows()[2] + 2, time=0.0)
    assert torch.allclose(memory.sweep(_rows()[2:3] + 1), _rows()[2] + 1)


def test_what_others_change_counts_and_cannot_be_undone_here() -> None:
    rows = _rows()
    memory = Reconsolidation(Patterns(rows))
    memory.retrieve(0, time=0.0)
    memory.observe(rows[0] + 2, time=0.0)
    assert torch.equal(rows, _rows())
    memory.patterns.remove(0)
    with pytest.raises(ValueError, match=r"got memory 0, removed by other means since it was logged"):
        memory.undo(2)
    assert len(memory.log) == 2 and memory.labile(0.0) == {}
    with pytest.raises(KeyError, match="handle 0"):
        memory.retrieve(0, time=0.0)
    memory.retrieve(1, time=0.0)
    memory.observe(rows[1] + 2, time=0.0)
    memory.patterns.values = memory.patterns.values + 1
    with pytest.raises(ValueError, match=r"got memory 1, changed by other means"):
        memory.undo()
    assert torch.equal(memory.content(1), memory.patterns.values[0])


def test_a_handle_that_others_gave_is_not_given_again_after_undo() -> None:
    memory = Reconsolidation(Patterns(_rows()))
    memory.retrieve(0, time=0.0)
    memory.observe(_rows()[0] + 50, time=0.0)
    other = memory.patterns.add(_rows()[0])[0]
    memory.undo()
    assert memory.patterns.add(_rows()[1])[0] == other + 1


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"lability": 0.0}, r"got lability=0.0; expected a finite number above 0 to 1"),
        ({"window": math.inf}, r"got window=inf; expected a finite number above 0"),
        ({"drift": -1.0}, r"got drift=-1.0; expected a finite number from 0"),
        ({"alpha": math.nan}, r"got alpha=nan"),
        ({"quantiles": (0.9, 0.5)}, r"got quantiles=\(0.9, 0.5\); expected the lower one first"),
        ({"quantiles": (0.5, 1.0)}, r"got quantiles=1.0"),
        ({"variance": 0.0}, r"got variance of shape"),
        ({"noise": torch.ones(3)}, r"got noise of shape \(3,\)"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Reconsolidation(Patterns(_rows()), **settings)


def test_memories_without_patterns_or_weights_are_refused() -> None:
    couplings = torch.ones(4, 4).fill_diagonal_(0)
    for memory in (Hopfield(couplings=couplings), _rows(), "memory"):
        with pytest.raises(TypeError, match=r"without stored patterns; expected Patterns or a memory of them"):
            Reconsolidation(memory)
    with pytest.raises(ValueError, match=r"rule='storkey'; expected 'hebb'"):
        Reconsolidation(Hopfield(_signs(), rule="storkey"))


def test_bad_calls_change_nothing() -> None:
    memory = Reconsolidation(Patterns(_rows()))
    memory.retrieve(0, time=5.0)
    before = _bits(memory)
    for call, error, text in (
        (lambda: memory.observe(_rows()[0], time=4.0), ValueError, r"got time=4.0; expected a finite number from 5 on"),
        (lambda: memory.observe(_rows()[0], time=math.nan), ValueError, r"got time=nan"),
        (lambda: memory.observe(_rows()[0] / 0, time=6.0), NonFiniteError, r"in the observation"),
        (lambda: memory.observe(_rows()[0, :2], time=6.0), ValueError, r"got observation of shape \(2,\)"),
        (lambda: memory.observe(_rows()[0], time=6.0, noise=0.0), ValueError, r"got noise"),
        (lambda: memory.observe(_rows()[0], time=6.0, surprise=-1.0), ValueError, r"got surprise=-1.0"),
        (lambda: memory.retrieve("0", time=6.0), TypeError, r"got a str as cue"),  # pyright: ignore[reportArgumentType]
        (lambda: memory.retrieve(17, time=6.0), KeyError, r"handle 17"),
        (lambda: memory.undo(2), ValueError, r"got n=2; expected from 1 to 1"),
        (lambda: memory.undo(0), ValueError, r"got n=0"),
    ):
        with pytest.raises(error, match=text):
            call()
    assert len(memory.log) == 1 and _equal(before, _bits(memory)) and memory.labile(6.0).keys() == {0}


def test_a_file_needs_a_memory_that_it_can_name() -> None:
    class Mine:
        patterns = Patterns(_rows())

    with pytest.raises(TypeError, match=r"got a Mine; expected one of patterns, modern_hopfield"):
        Reconsolidation(Mine()).pack()
