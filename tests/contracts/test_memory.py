"""The battery of every memory with an energy and a sweep: each is one line of `MEMORIES`."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemotrace.core.artifact import read, write
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.core.memory import Memory
from mnemotrace.memories.assemblies import Assemblies
from mnemotrace.memories.dense import DenseMemory
from mnemotrace.memories.diffusion import DiffusionMemory
from mnemotrace.memories.hopfield import Hopfield
from mnemotrace.memories.modern import ModernHopfield
from mnemotrace.retrieval.dynamics import recall

D, B = 12, 7


class Draw:
    """Random patterns and states from one seed, float64."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float64) -> None:
        self.generator, self.dtype = torch.Generator().manual_seed(seed), dtype

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def signs(self, n: int) -> torch.Tensor:
        return torch.where(self.normal(n, D) < 0, -1.0, 1.0).to(self.dtype)

    def weights(self, n: int) -> torch.Tensor:
        return self.normal(n).exp()


@dataclass(frozen=True)
class Line:
    """How to make a memory, and what its states look like.

    Attributes:
        make: draws one.
        states: draws `(b, D)` states of the kind that it is made for.
        gradient: of the energy, written down by hand; None where it has none.
    """

    make: Callable[[Draw], Any]
    states: Callable[[Draw], torch.Tensor] = lambda draw: draw.normal(B, D)
    gradient: Callable[[Any, torch.Tensor], torch.Tensor] | None = None


def partly_erased(draw: Draw) -> torch.Tensor:
    return draw.signs(B) * (draw.normal(B, D) > -0.5)


def random_couplings(draw: Draw) -> Hopfield:
    square = draw.normal(D, D).triu(1)
    return Hopfield(couplings=square + square.T, bias=draw.normal(D))


def four_on(draw: Draw, n: int = B) -> torch.Tensor:
    order = draw.normal(n, D).argsort(dim=1)[:, :4]
    return torch.zeros(n, D, dtype=draw.dtype).scatter(1, order, 1.0)


def binary(make: Callable[[Draw], Any]) -> Line:
    return Line(make, partly_erased, lambda memory, x: -memory.field(x))


MEMORIES: dict[str, Line] = {
    "hopfield, hebb": binary(lambda draw: Hopfield(draw.signs(5), weights=draw.weights(5), bias=draw.normal(D) / 9)),
    "hopfield, storkey": binary(lambda draw: Hopfield(draw.signs(5), rule="storkey")),
    "hopfield, pseudo-inverse": binary(lambda draw: Hopfield(draw.signs(5), rule="pseudo-inverse")),
    "hopfield, given couplings": binary(random_couplings),
    "dense, cubic": binary(lambda draw: DenseMemory(draw.signs(9), weights=draw.weights(9))),
    "dense, degree 8": binary(lambda draw: DenseMemory(draw.signs(9), degree=8)),
    "modern": Line(
        lambda draw: ModernHopfield(draw.normal(9, D), beta=2.0, weights=draw.weights(9)),
        gradient=lambda memory, x: x - memory.sweep(x),
    ),
    "modern, without norms": Line(
        lambda draw: ModernHopfield(draw.signs(9), beta=0.2, norms=False),
        gradient=lambda memory, x: x - memory.sweep(x),
    ),
    "modern, automatic": Line(lambda draw: ModernHopfield(draw.normal(9, D))),
    "diffusion": Line(
        lambda draw: DiffusionMemory(draw.normal(9, D), sigma=0.7, weights=draw.weights(9)),
        gradient=lambda memory, x: x - memory.sweep(x),
    ),
    "assemblies": Line(lambda draw: Assemblies(four_on(draw, 5)), four_on, lambda memory, x: -memory.field(x)),
    "dense, exp": binary(lambda draw: DenseMemory(draw.signs(9), separation="exp", weights=draw.weights(9))),
}

every = pytest.mark.parametrize("name", MEMORIES)
EDITABLE = [name for name, line in MEMORIES.items() if getattr(line.make(Draw(0)), "patterns", None) is not None]
editable = pytest.mark.parametrize("name", EDITABLE)
seeds = st.integers(0, 2**31)


def drawn(name: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Any, torch.Tensor, Draw]:
    draw = Draw(seed, dtype)
    return MEMORIES[name].make(draw), MEMORIES[name].states(draw), draw


@every
def test_it_is_a_memory_and_a_module(name: str) -> None:
    memory, _, _ = drawn(name)
    assert isinstance(memory, Memory)
    assert isinstance(memory, torch.nn.Module)
    assert memory.d == D


# --- energy


@every
@settings(max_examples=12)
@given(seed=seeds, ordered=st.booleans())
def test_a_sweep_never_raises_the_energy(name: str, seed: int, ordered: bool) -> None:
    memory, x, draw = drawn(name, seed)
    energy = memory.energy(x)
    for _ in range(6):
        x = memory.sweep(x, generator=None if ordered else draw.generator)
        assert (memory.energy(x) <= energy + 1e-10).all()
        energy = memory.energy(x)


@every
@settings(max_examples=12)
@given(seed=seeds)
def test_nor_does_the_update_of_one_feature(name: str, seed: int) -> None:
    memory, x, _ = drawn(name, seed)
    for others in ~torch.eye(D, dtype=torch.bool):
        new = memory.sweep(x, known=others)
        assert (memory.energy(new) <= memory.energy(x) + 1e-10).all()
        assert torch.equal(new[:, others], x[:, others])
        x = new


@every
def test_a_sweep_lowers_the_energy_of_some_states(name: str) -> None:
    memory, x, _ = drawn(name)
    assert (memory.energy(memory.sweep(x)) < memory.energy(x) - 1e-3).any()


@every
@settings(max_examples=12)
@given(seed=seeds)
def test_the_gradient_of_the_energy_is_the_one_written_down(name: str, seed: int) -> None:
    memory, x, draw = drawn(name, seed)
    gradient = MEMORIES[name].gradient
    if gradient is None:
        pytest.skip("no gradient by hand")
    x = (x + 0.3 * draw.normal(*x.shape)).requires_grad_(True)
    (found,) = torch.autograd.grad(memory.energy(x).sum(), x)
    assert torch.allclose(found, gradient(memory, x.detach()), rtol=0, atol=1e-10)


# --- recall


@every
@settings(max_examples=12)
@given(seed=seeds)
def test_known_features_are_held(name: str, seed: int) -> None:
    memory, x, draw = drawn(name, seed)
    known = draw.normal(*x.shape) > 0
    for mask in (known, known[0]):
        swept = memory.sweep(x, known=mask, generator=draw.generator)
        held = mask.expand(x.shape)
        assert torch.equal(swept[held], x[held])
        assert torch.equal(recall(memory, x, known=mask).state[held], x[held])


@every
def test_other_features_move_though_some_are_known(name: str) -> None:
    memory, x, draw = drawn(name)
    known = draw.normal(*x.shape) > 0
    assert not torch.equal(memory.sweep(x, known=known), x)
    assert torch.equal(memory.sweep(x, known=torch.ones_like(known)), x)


@every
@settings(max_examples=12)
@given(seed=seeds)
def test_the_same_seed_gives_the_same_result(name: str, seed: int) -> None:
    memory, x, _ = drawn(name, seed)
    first, second = (recall(memory, x, generator=torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(first.state, second.state)
    assert torch.equal(first.steps, second.steps)
    assert first.manifest == second.manifest


@every
@settings(max_examples=4)
@given(seed=seeds)
def test_a_batch_is_its_states_one_by_one(name: str, seed: int) -> None:
    memory, x, _ = drawn(name, seed)
    together = recall(memory, x, generator=torch.Generator().manual_seed(seed))
    for i, state in enumerate(x):
        alone = recall(memory, state, generator=torch.Generator().manual_seed(seed))
        assert torch.allclose(alone.state[0], together.state[i], rtol=0, atol=1e-9)
        assert torch.allclose(alone.energy[0], together.energy[i], rtol=0, atol=1e-9)


@every
def test_recall_comes_to_rest_and_changes_neither_memory_nor_cue(name: str) -> None:
    memory, x, draw = drawn(name)
    before, cue = copy.deepcopy(memory.state_dict()), x.clone()
    found = recall(memory, x, sweeps=2000, generator=draw.generator)
    assert found.converged.all()
    assert not found.cycle.any()
    assert torch.allclose(memory.sweep(found.state), found.state, rtol=0, atol=1e-5)
    assert torch.equal(x, cue)
    after = memory.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


# --- storing


@every
@settings(max_examples=12)
@given(seed=seeds)
def test_what_is_saved_is_what_loads(name: str, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    memory, x, draw = drawn(name, seed)
    path = write(memory.pack(), tmp_path_factory.mktemp("memory") / "x.safetensors")
    again = type(memory).unpack(read(path, memory.kind))
    assert again.state_dict().keys() == memory.state_dict().keys()
    assert all(torch.equal(value, memory.state_dict()[key]) for key, value in again.state_dict().items())
    assert torch.allclose(again.energy(x), memory.energy(x), rtol=1e-14, atol=1e-14)
    assert torch.allclose(again.sweep(x), memory.sweep(x), rtol=1e-14, atol=1e-14)


@editable
@settings(max_examples=12)
@given(seed=seeds, which=st.integers(0, 2))
def test_a_removed_pattern_was_never_there(name: str, seed: int, which: int) -> None:
    memory, x, draw = drawn(name, seed)
    new = draw.signs(3)
    x = torch.cat([x, new])
    before = memory.energy(x), memory.sweep(x)
    handles = memory.patterns.add(new)
    after = copy.deepcopy(memory)
    assert not torch.allclose(memory.energy(x), before[0])
    memory.patterns.remove(handles[which])
    memory.patterns.remove([handle for handle in handles if handle != handles[which]])
    assert torch.allclose(memory.energy(x), before[0], rtol=0, atol=1e-12)
    assert torch.equal(memory.sweep(x), before[1])
    with pytest.raises(KeyError, match=f"handle {handles[0]}, which is not among"):
        memory.patterns.remove(handles[0])
    assert len(after) == len(memory) + 3


@editable
def test_handles_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    memory, x, draw = drawn(name)
    (handle,) = memory.patterns.add(draw.signs(1))
    memory.patterns.remove(0)
    again = type(memory).unpack(read(write(memory.pack(), tmp_path / "x")))
    for each in (memory, again):
        each.patterns.remove(handle)
        assert each.patterns.add(draw.signs(1)[0]) == [handle + 1]
    assert len(again) == len(memory)


# --- types, widths, mistakes


@every
def test_it_moves_to_another_precision(name: str) -> None:
    memory, x, _ = drawn(name, dtype=torch.float32)
    assert memory.energy(x).dtype == memory.sweep(x).dtype == torch.float32
    wide = copy.deepcopy(memory).double()
    assert wide.energy(x.double()).dtype == wide.sweep(x.double()).dtype == torch.float64
    assert torch.allclose(wide.energy(x.double()).float(), memory.energy(x), rtol=1e-4, atol=1e-4)
    assert recall(memory, x).state.dtype == torch.float32
    assert recall(wide, x.double()).state.dtype == torch.float64


@every
@pytest.mark.gpu
def test_it_moves_to_another_device(name: str) -> None:
    memory, x, _ = drawn(name)
    there = copy.deepcopy(memory).cuda()
    known = x > 0.5
    found = recall(there, x.cuda(), known=known.cuda(), generator=torch.Generator().manual_seed(0))
    wanted = recall(memory, x, known=known, generator=torch.Generator().manual_seed(0))
    assert found.state.is_cuda
    assert torch.allclose(found.state.cpu(), wanted.state, rtol=0, atol=1e-8)
    assert torch.allclose(found.energy.cpu(), wanted.energy, rtol=0, atol=1e-8)


@every
def test_states_that_do_not_fit_are_refused(name: str) -> None:
    memory, x, _ = drawn(name)
    broken = x.clone()
    broken[1, 2] = float("nan")
    for call in (memory.energy, memory.sweep, lambda x: recall(memory, x)):
        with pytest.raises(ValueError, match=rf"shape \({B}, {D - 1}\); expected \({D},\) or \(b, {D}\)"):
            call(x[:, 1:])
        with pytest.raises(ValueError, match=rf"shape \(0, {D}\)"):
            call(x[:0])
        with pytest.raises(NonFiniteError, match="got 1 non-finite of"):
            call(broken)
        with pytest.raises(TypeError, match=r"got a tensor of torch.int64 .*; call .float\(\) on it"):
            call(x.long())
        with pytest.raises(TypeError, match="got a list as"):
            call(x.tolist())


@every
def test_masks_that_do_not_fit_are_refused(name: str) -> None:
    memory, x, _ = drawn(name)
    for call in (memory.sweep, lambda x, known: recall(memory, x, known=known)):
        with pytest.raises(TypeError, match=r"got a mask of torch.float64; expected a boolean tensor"):
            call(x, known=x)
        with pytest.raises(ValueError, match=rf"got a mask of shape \({B}, {D - 1}\); expected \({D},\) or"):
            call(x, known=x[:, 1:] > 0)
        with pytest.raises(ValueError, match=rf"got a mask of shape \({B - 1}, {D}\)"):
            call(x, known=x[1:] > 0)
