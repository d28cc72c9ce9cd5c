"""The network of the corrected equations: energy, updates, ties, cycles; the printed sign beside it."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.errors import NonFiniteError, NumericalWarning
from mnemotrace.memories.dense import DenseMemory
from mnemotrace.memories.hopfield import Hopfield
from mnemotrace.memories.patterns import Patterns
from mnemotrace.memories.rules import hebb, pseudo_inverse, storkey
from mnemotrace.retrieval.dynamics import recall

D = 20
synchronous = pytest.mark.filterwarnings("ignore::mnemotrace.core.errors.NumericalWarning")


def signs(n: int, d: int = D, seed: int = 0) -> torch.Tensor:
    draw = torch.randint(2, (n, d), generator=torch.Generator().manual_seed(seed))
    return 2 * draw.double() - 1


def random_net(seed: int, d: int = D, **options: object) -> Hopfield:
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(d, d, generator=generator, dtype=torch.float64).triu(1)
    bias = torch.randn(d, generator=generator, dtype=torch.float64)
    return Hopfield(couplings=square + square.T, bias=bias, **options)


def sweep_in_loops(memory: Hopfield, state: list[float]) -> list[float]:
    """Update feature after feature, each field a sum of its own."""
    w, b, x = memory.couplings.tolist(), memory.bias.tolist(), list(state)
    for j in range(len(x)):
        field = sum(w[j][k] * x[k] for k in range(len(x))) + b[j]
        x[j] = x[j] if field == 0 else (1.0 if field > 0 else -1.0)
    return x


# --- energy and updates


@given(seed=st.integers(0, 2**31))
def test_a_sweep_is_the_update_of_one_feature_after_another(seed: int) -> None:
    memory, x = random_net(seed), signs(4, seed=seed)
    assert memory.sweep(x).tolist() == [sweep_in_loops(memory, state) for state in x.tolist()]


@given(seed=st.integers(0, 2**31))
def test_the_energy_as_printed_only_rises(seed: int) -> None:
    memory, x = random_net(seed), signs(4, seed=seed)
    memory.bias.zero_()
    swept = memory.sweep(x)
    printed = [(s @ memory.couplings * s).sum(1) for s in (x, swept)]
    assert (printed[1] >= printed[0] - 1e-10).all()
    assert torch.allclose(-0.5 * printed[0], memory.energy(x), rtol=0, atol=1e-12)


def test_rest_is_a_minimum_among_all_states_one_feature_away() -> None:
    memory = random_net(3, d=9)
    every = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=9)), dtype=torch.float64)
    energy = memory.energy(every).reshape([2] * 9)
    for state in recall(memory, signs(30, d=9)).state:
        place = tuple(((state + 1) / 2).long().tolist())
        for j in range(9):
            other = (*place[:j], 1 - place[j], *place[j + 1 :])
            assert energy[other] >= energy[place]


def test_a_stored_pattern_and_its_mirror_image_come_back_from_a_damaged_cue() -> None:
    patterns = signs(3, 100)
    cue = patterns.clone()
    cue[:, :10] *= -1
    cue[:, 10:20] = 0
    memory = Hopfield(patterns)
    assert torch.equal(recall(memory, cue).state, patterns)
    assert torch.equal(recall(memory, -cue).state, -patterns)


def test_a_bias_alone_decides() -> None:
    bias = torch.linspace(-1, 1, D, dtype=torch.float64)
    memory = Hopfield(couplings=torch.zeros(D, D, dtype=torch.float64), bias=bias)
    assert torch.equal(memory.sweep(signs(3)), bias.sign().expand(3, D))


def test_a_field_of_zero_keeps_the_feature_though_rounding_says_otherwise() -> None:
    couplings = torch.zeros(4, 4, dtype=torch.float64)
    couplings[3, :3] = couplings[:3, 3] = torch.tensor([0.1, 0.2, -0.3], dtype=torch.float64)
    x = torch.tensor([[1.0, 1.0, 1.0, -1.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    assert 0.1 + 0.2 - 0.3 > 0
    known = torch.tensor([True, True, True, False])
    assert torch.equal(Hopfield(couplings=couplings).sweep(x, known=known), x)


def test_the_order_of_updates_is_the_generators() -> None:
    memory, x = random_net(0, d=40), signs(30, 40)
    ways = [memory.sweep(x, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(ways[0], ways[1])
    assert not torch.equal(ways[0], ways[2])


# --- synchronous


def test_updating_all_at_once_warns() -> None:
    with pytest.warns(NumericalWarning, match="synchronous updates can raise the energy and end in cycles of length 2"):
        Hopfield(signs(3), order="synchronous")


@synchronous
def test_two_features_that_follow_each_other_go_round_for_ever_unless_one_goes_first() -> None:
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    x = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    round_and_round = recall(Hopfield(couplings=swap, order="synchronous"), x)
    assert round_and_round.cycle.tolist() == [2, 0]
    assert round_and_round.converged.tolist() == [False, True]
    assert recall(Hopfield(couplings=swap), x).converged.all()


@synchronous
def test_updating_all_at_once_holds_known_features_too() -> None:
    memory, x = random_net(0, order="synchronous"), signs(5)
    known = torch.arange(D) < D // 2
    swept = memory.sweep(x, known=known)
    assert torch.equal(swept[:, known], x[:, known])
    assert not torch.equal(swept, x)


@synchronous
def test_updating_all_at_once_ends_at_rest_or_in_a_cycle_of_two_and_can_raise_the_energy() -> None:
    raised, cycles = False, 0
    for seed in range(20):
        memory, x = Hopfield(signs(6, 64, seed), order="synchronous"), signs(50, 64, seed + 1000)
        other = random_net(seed, order="synchronous")
        start = signs(50, seed=seed)
        raised |= bool((other.energy(other.sweep(start)) > other.energy(start) + 1e-9).any())
        found = recall(memory, x, sweeps=200)
        assert (found.converged | (found.cycle == 2)).all()
        cycles += int((found.cycle == 2).sum())
    assert raised
    assert 0.005 < cycles / 1000 < 0.15


# --- storing


@pytest.mark.parametrize(
    ("rule", "couplings"),
    [("hebb", hebb), ("storkey", storkey), ("pseudo-inverse", lambda y: pseudo_inverse(y)[0])],
)
def test_adding_and_removing_equal_storing_what_is_left(rule, couplings) -> None:
    patterns = signs(7)
    memory = Hopfield(patterns[:4], rule=rule)
    handles = memory.patterns.add(patterns[4:])
    assert torch.equal(memory.couplings, couplings(patterns))
    memory.patterns.remove([1, handles[0]])
    assert torch.equal(memory.couplings, couplings(patterns[[0, 2, 3, 5, 6]]))
    assert len(memory) == 5


def test_a_weight_is_as_if_stored_so_often() -> None:
    patterns = signs(3)
    memory = Hopfield(patterns)
    memory.patterns.reweight(1, 3.0)
    wanted = hebb(patterns[[0, 1, 1, 1, 2]])
    assert torch.allclose(memory.couplings, wanted, rtol=0, atol=1e-15)
    assert torch.allclose(Hopfield(patterns, weights=torch.tensor([1.0, 3, 1])).couplings, wanted, rtol=0, atol=1e-15)


def test_the_couplings_are_formed_anew_only_when_the_store_has_changed() -> None:
    store = Patterns(signs(3))
    memory, other = Hopfield(store), DenseMemory(store)
    first = memory.couplings
    assert memory.couplings is first
    other.patterns.add(signs(1, seed=1))
    assert not torch.equal(memory.couplings, first)
    assert torch.equal(memory.couplings, hebb(store.values))
    store.values.neg_()
    assert torch.equal(memory.couplings, hebb(store.values))


def test_an_edit_that_the_rule_cannot_take_is_refused_until_it_is_taken_back() -> None:
    memory, x = Hopfield(signs(3), rule="storkey"), signs(1)
    before = memory.energy(x)
    (halved,), (heavy,) = memory.patterns.add(signs(1) * 0.5), memory.patterns.add(signs(1), weight=2.0)
    with pytest.raises(ValueError, match="entries other than -1 and 1, such as"):
        memory.energy(x)
    memory.patterns.remove(halved)
    with pytest.raises(ValueError, match="got weights with rule='storkey'; expected none; only Hebb's rule"):
        memory.sweep(x)
    memory.patterns.remove(heavy)
    assert torch.equal(memory.energy(x), before)


# --- mistakes


def test_what_does_not_make_a_network_is_refused() -> None:
    good = random_net(0).couplings
    with pytest.raises(ValueError, match="got neither; expected patterns or couplings"):
        Hopfield()
    with pytest.raises(ValueError, match="got both; expected patterns or couplings"):
        Hopfield(signs(3), couplings=good)
    with pytest.raises(ValueError, match="got rule='Hebb'; expected one of hebb, storkey, pseudo-inverse"):
        Hopfield(signs(3), rule="Hebb")
    with pytest.raises(ValueError, match="got order='random'; expected one of asynchronous, synchronous"):
        Hopfield(signs(3), order="random")
    with pytest.raises(ValueError, match=r"got weights with rule='storkey'; expected none; only Hebb's rule"):
        Hopfield(signs(3), rule="storkey", weights=torch.tensor([1.0, 2.0, 1.0]))
    with pytest.raises(ValueError, match=r"entries other than -1 and 1, such as 2; .* or ModernHopfield for real ones"):
        Hopfield(2 * signs(3).abs())
    with pytest.raises(ValueError, match=r"got couplings \(20, 19\); expected a tensor of shape \(d, d\)"):
        Hopfield(couplings=good[:, 1:])
    with pytest.raises(ValueError, match="differ from their transpose by up to .*; expected symmetric ones"):
        Hopfield(couplings=good.triu())
    with pytest.raises(ValueError, match="with up to 1 on the diagonal; expected symmetric ones with zero diagonal"):
        Hopfield(couplings=good + torch.eye(D))
    with pytest.raises(ValueError, match=r"got bias \(19,\); expected a tensor of shape \(20,\)"):
        Hopfield(couplings=good, bias=torch.zeros(19))
    with pytest.raises(NonFiniteError, match="in the bias"):
        Hopfield(couplings=good, bias=torch.full((20,), float("inf")))
    with pytest.raises(NonFiniteError, match="in the couplings"):
        Hopfield(couplings=good * float("nan"))


def test_given_couplings_keep_no_patterns() -> None:
    memory = random_net(0)
    assert len(memory) == 0
    assert memory.patterns is None
