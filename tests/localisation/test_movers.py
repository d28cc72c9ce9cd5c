"""Movers: the entries that moved most, against one sort of everything; ties of parameters, precision, protection."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mnemotrace.core.edit import Sparse
from mnemotrace.core.errors import SelectionError
from mnemotrace.core.mask import Mask
from mnemotrace.localisation.movers import Pair, Pool, eligible


def network(*, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3, bias=False), nn.Linear(3, 1)).to(dtype)


def moved(base: nn.Module, seed: int, size: float = 0.1) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator).to(parameter))
    return tuned


def sizes(base: nn.Module, tuned: nn.Module) -> Tensor:
    """How far every entry moved, in the order of the parameters."""
    both = zip(base.parameters(), tuned.parameters(), strict=True)
    return torch.cat([(b.detach().double() - a.detach().double()).abs().flatten() for a, b in both])


def places(base: nn.Module, pool: Pool) -> list[int]:
    """The pool's entries as positions among all entries of the network."""
    starts, start = {}, 0
    for name, parameter in base.named_parameters():
        starts[name], start = start, start + parameter.numel()
    return [starts[name] + i for name, index in pool.indices.items() for i in index.tolist()]


@given(st.integers(0, 2**31), st.integers(1, 40))
def test_movers_are_the_first_of_one_sort_of_everything(seed: int, count: int) -> None:
    base = network()
    tuned = moved(base, seed)
    pool = Pair.of(base, tuned, None, None).movers(count)
    assert places(base, pool) == sorted(sizes(base, tuned).topk(count).indices.tolist())
    assert len(pool) == count
    for name, index in pool.indices.items():
        assert torch.equal(pool.after[name], tuned.get_parameter(name).detach().flatten()[index])
        delta = (tuned.get_parameter(name).double() - base.get_parameter(name).double()).detach().flatten()[index]
        assert torch.equal(pool.change(name), delta)


@given(st.integers(0, 2**31), st.integers(1, 20))
def test_random_entries_are_ones_that_moved_and_are_free(seed: int, count: int) -> None:
    base = network()
    tuned = moved(base, seed)
    with torch.no_grad():
        tuned[2].weight.copy_(base[2].weight)  # 12 of 40 entries stay
        tuned[0].bias[1:] = base[0].bias[1:]  # and 3 more
    taken = Mask({"3.weight": Sparse("3.weight", (1, 3), torch.tensor([0, 2]), torch.ones(2))}, 40)
    pair = Pair.of(base, tuned, None, taken)
    assert (pair.total, pair.moved) == (40, 40 - 12 - 3 - 2)
    free = set((sizes(base, tuned) > 0).nonzero().flatten().tolist()) - {36, 38}
    drawn = [places(base, pair.random(count, torch.Generator().manual_seed(seed + i))) for i in (0, 0, 1)]
    assert drawn[0] == drawn[1] and all(len(set(d)) == count and set(d) <= free for d in drawn)
    assert set(places(base, pair.movers(pair.moved))) == free


def test_random_entries_come_from_everywhere_alike() -> None:
    base = network()
    pair = Pair.of(base, moved(base, 0), None, None)
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(40)
    for _ in range(300):
        counts[places(base, pair.random(10, generator))] += 1
    assert counts.min() > 40 and counts.max() < 115  # 75 each, with a standard deviation of 7.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_differences_are_taken_in_no_less_than_the_networks_precision(dtype: torch.dtype) -> None:
    base = network(dtype=dtype)
    tuned = moved(base, 3, size=1e-10 if dtype == torch.float64 else 0.1)
    pair = Pair.of(base, tuned, None, None)
    assert pair.moved == int((sizes(base, tuned) > 0).sum()) > 30
    assert sizes(base, tuned)[places(base, pair.movers(5))].min() >= sizes(base, tuned).topk(5).values.min()


def test_a_tuned_network_of_another_type_is_rounded_to_the_bases() -> None:
    base = network(dtype=torch.bfloat16)
    tuned = moved(base.float(), 1, size=1e-6)  # less than bfloat16 can tell
    assert Pair.of(base.bfloat16(), tuned, None, None).moved < 5


@pytest.mark.parametrize(("budget", "count"), [(1, 1), (7, 7), (3.0, 3), (0.25, 10), (0.0126, 1)])
def test_a_budget_is_a_share_or_a_number(budget: float, count: int) -> None:
    base = network()
    assert Pair.of(base, moved(base, 0), None, None).entries(budget) == count


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (0.01, "got a budget of 0 of 40 entries, of which 40 moved and are free; expected at least 1"),
        (41, "got a budget of 41 of 40 entries"),
        (-1, "got budget=-1; expected a share in"),
        (1.5, "got budget=1.5; expected a share in"),
    ],
)
def test_a_budget_that_cannot_be_had_is_refused(budget: float, message: str) -> None:
    base = network()
    with pytest.raises(ValueError, match=message):
        Pair.of(base, moved(base, 0), None, None).entries(budget)


def test_a_pool_has_tuned_values_where_it_is_on_and_the_bases_elsewhere() -> None:
    base = network()
    tuned = moved(base, 0)
    pool = Pair.of(base, tuned, None, None).movers(12)
    on = torch.arange(12) % 3 == 0
    whole = pool.parameters(pool.values(on))
    chosen = dict.fromkeys(p for p, lit in zip(places(base, pool), on.tolist(), strict=True) if lit)
    flat = torch.cat([p.detach().flatten() for p in base.parameters()])
    flat[list(chosen)] = torch.cat([p.detach().flatten() for p in tuned.parameters()])[list(chosen)]
    for name, value in zip(whole, flat.split([p.numel() for p in base.parameters()]), strict=True):
        assert torch.equal(whole[name].flatten(), value)
    assert places(base, pool.only(on)) == list(chosen) and len(pool.only(on)) == 4
    assert torch.equal(pool.all(), torch.ones(12, dtype=torch.bool))
    assert {n: len(part) for n, part in pool.split(on).items()} == {n: len(i) for n, i in pool.indices.items()}


def test_gradients_reach_the_entries_and_nothing_else() -> None:
    base = network()
    pool = Pair.of(base, moved(base, 0), None, None).movers(6)
    values = {name: value.requires_grad_() for name, value in pool.values(pool.all()).items()}
    sum((parameter * parameter.detach()).sum() for parameter in pool.parameters(values).values()).backward()
    for name, value in values.items():
        assert torch.equal(value.grad, value.detach())
        assert base.get_parameter(name).grad is None


def test_regions_hold_the_changes_of_parameters_that_have_any() -> None:
    base = network()
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        tuned[2].weight[1, 2] += 0.5
    (region,) = Pair.of(base, tuned, None, None).movers(1).regions().values()
    assert (region.parameter, region.shape, region.indices.tolist()) == ("2.weight", (3, 4), [6])
    assert region.values.tolist() == pytest.approx([0.5]) and region.values.dtype == torch.float64


# ------------------------------------------------------------------------------------------------------------- eligible


def test_integers_embeddings_and_a_head_tied_to_one_are_left_out_and_a_tied_map_comes_once() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.bag = nn.Embedding(6, 3), nn.EmbeddingBag(6, 3)
            self.first, self.second, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 6)
            self.second.weight = self.first.weight
            self.head.weight = self.words.weight
            self.counts = nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)

    model = Small()
    assert eligible(model) == ["first.weight", "first.bias", "second.bias", "head.bias"]
    model.get_output_embeddings = lambda: model.head
    assert eligible(model) == ["first.weight", "first.bias", "second.bias"]
    assert eligible(model, ["words.weight"]) == ["words.weight"]
    with pytest.raises(SelectionError, match="match none"):
        eligible(model, ["counts"])
