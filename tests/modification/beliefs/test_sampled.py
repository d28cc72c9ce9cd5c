"""Samples of graphs, beside all of them."""

import pytest
import torch

from mnemotrace.modification.beliefs import sampled
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.families import BDeu
from mnemotrace.modification.beliefs.sampled import draw
from mnemotrace.modification.beliefs.state import Beliefs

COINS = dict.fromkeys("abc", ("no", "yes"))


def _rows(n: int, seed: int = 0, width: int = 3) -> torch.Tensor:
    """A chain of copies, each wrong one time in ten."""
    g = torch.Generator().manual_seed(seed)
    found = [torch.randint(0, 2, (n,), generator=g)]
    for _ in range(width - 1):
        found.append(torch.where(torch.rand(n, generator=g) < 0.9, found[-1], 1 - found[-1]))
    return torch.stack(found, 1)


def test_the_prior_has_no_cycle_and_no_more_parents_than_allowed() -> None:
    found = draw(BDeu((2,) * 9), Evidence.nothing(9), "order", 2, 0)
    a = found.graphs.adjacency().double()
    assert float(torch.linalg.matrix_power(a, 9).abs().max()) == 0
    assert float(a.sum(1).max()) == 2
    assert float(found.weights.sum()) == pytest.approx(1)
    assert torch.allclose(found.edges, a.mean(0), atol=1e-12)


def test_a_sampled_posterior_is_near_the_exact_one_and_revises_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "_CHAINS", {"steps": 15, "burn": 10, "chains": 8, "temperatures": (1.0,)})
    monkeypatch.setattr(sampled, "_PRIOR", 150)
    exact, rough = Beliefs(COINS), Beliefs(COINS, method="order", max_parents=2)
    for beliefs in (exact, rough):
        beliefs.remember({"a": "yes"}, explains={"a": "b"})
    updates = [beliefs.observe(_rows(60)) for beliefs in (exact, rough)]
    assert updates[1].surprise == pytest.approx(updates[0].surprise, abs=1.0)
    for beliefs in (exact, rough):
        beliefs.observe(torch.tensor([[0, 1, 1], [1, 1, 1]] * 20), do="b")
    assert rough.approximate
    assert not exact.approximate
    assert torch.allclose(rough.edges(), exact.edges(), atol=0.1)
    assert rough.memory(0).status == exact.memory(0).status == "revised"
    again = Beliefs.replay(rough.settings, rough.log)
    assert torch.equal(again.posterior, rough.posterior)
    assert torch.equal(Beliefs.unpack(rough.pack()).edges(), rough.edges())
    assert rough.audit() == 0
    with pytest.raises(ValueError, match="got an approximate posterior or numbers"):
        rough.next_question()


def test_many_variables_are_sampled_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "_CHAINS", {"steps": 5, "burn": 3, "chains": 2, "temperatures": (1.0,)})
    beliefs = Beliefs({f"v{i:02}": ("no", "yes") for i in range(10)}, max_parents=2)
    update = beliefs.observe(_rows(60, width=10))
    table = beliefs.edges()
    assert beliefs.approximate
    assert update.gain > 0
    assert float((table + table.T).diagonal(1).min()) > 0.9
    assert beliefs.graphs.edges(0) == beliefs.graphs.edges(0)


def test_climbs_find_the_links_of_a_chain() -> None:
    beliefs = Beliefs(COINS, method="search")
    beliefs.observe(_rows(80))
    table = beliefs.edges()
    assert float((table + table.T).diagonal(1).min()) > 0.99
