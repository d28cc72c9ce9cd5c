"""An index that looks everywhere is exact to its bound; one that looks at few cells says when it may have missed."""

import builtins
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.memories.index import Index
from mnemotrace.memories.lookup import lookup

N, D, B = 2000, 16, 40


def _made(seed: int = 0, n: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    """Patterns around 30 centres, and states near some of them."""
    g = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(30, D, generator=g)
    patterns = centres[torch.randint(30, (n,), generator=g)] + 0.5 * torch.randn(n, D, generator=g)
    return patterns, patterns[torch.randint(n, (B,), generator=g)] + 0.3 * torch.randn(B, D, generator=g)


def test_without_faiss_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "faiss":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"needs faiss; pip install 'mnemotrace\[faiss\]'"):
        Index.of(_made()[0])


@pytest.fixture(autouse=True)
def _faiss(request: pytest.FixtureRequest) -> None:
    if "monkeypatch" not in request.fixturenames:
        pytest.importorskip(
            "faiss", reason="faiss is not installed; pip install 'mnemotrace[faiss]'"
        ).omp_set_num_threads(1)


@given(seed=st.integers(0, 50), p=st.sampled_from([0.1, 1.0, 30.0]), norms=st.booleans(), top=st.integers(8, 100))
def test_where_all_cells_are_probed_the_bound_is_certain(seed: int, p: float, norms: bool, top: int) -> None:
    patterns, x = _made(seed, 500)
    log_weights = 6 * torch.randn(500, generator=torch.Generator().manual_seed(seed))
    index = Index.of(patterns, cells=8, norms=norms)
    found = index.lookup(x.double(), p, log_weights=log_weights, probes=index.cells, top=top)
    exact = lookup(x.double(), patterns, torch.full((1, 1), p), log_weights=log_weights, norms=norms)
    assert found.bound is not None
    assert bool(((found.mean - exact.mean).norm(dim=1) <= found.bound + 1e-5).all())
    assert bool((found.log_total <= exact.log_total + 1e-9).all())


def test_a_cold_retrieval_is_exact_and_its_bound_small() -> None:
    patterns, x = _made()
    index = Index.of(patterns)
    found, exact = index.lookup(x, 20.0, probes=index.cells), lookup(x, patterns, torch.full((1, 1), 20.0))
    assert found.bound is not None
    assert found.bound.max() < 0.05
    assert (found.mean - exact.mean).abs().max() < 0.01
    assert torch.allclose(found.log_total, exact.log_total, atol=0.01)
    every = index.lookup(x, 20.0, probes=index.cells, top=N)
    assert every.bound is not None
    assert every.bound.max() == 0
    assert torch.allclose(every.mean, exact.mean, atol=1e-5)


def test_states_may_have_precisions_of_their_own() -> None:
    patterns, x = _made()
    index, p = Index.of(patterns), torch.linspace(1, 30, B)[:, None]
    together = index.lookup(x, p)
    for i in (0, B - 1):
        assert torch.allclose(together.mean[i], index.lookup(x[i : i + 1], float(p[i])).mean[0], atol=1e-5)


def test_a_miss_shows_in_the_bound_and_is_repaired_on_request() -> None:
    """Noise without cells, two of 102 probed: stored patterns are missed, and no miss has a small bound."""
    g = torch.Generator().manual_seed(0)
    patterns = torch.nn.functional.normalize(torch.randn(4000, 64, generator=g), dim=1)
    noise = torch.nn.functional.normalize(torch.randn(200, 64, generator=g), dim=1)
    x, p = patterns[:200] + 0.5 * noise, torch.full((1, 1), 90.0)
    index = Index.of(patterns)
    found, exact = index.lookup(x, p, probes=2), lookup(x, patterns, p)
    error = (found.mean - exact.mean).norm(dim=1)
    missed = error > 0.2
    assert found.bound is not None
    assert missed.sum() > 10
    assert bool((found.bound >= error).all())
    assert (found.bound < 0.05).sum() > 20
    repaired = index.lookup(x, p, probes=2, tolerance=0.05)
    assert repaired.bound is not None
    assert (repaired.mean - exact.mean).norm(dim=1).max() <= 0.05
    assert repaired.bound.max() <= 0.05
    assert float((repaired.bound == 0).float().mean()) < 1


def test_a_lone_impostor_hides_a_miss() -> None:
    """The condition that the module states: beyond the probed cells nothing is certain."""
    g = torch.Generator().manual_seed(0)
    near = torch.randn(400, 2, generator=g) * 0.1
    far = torch.randn(400, 2, generator=g) * 0.1 + torch.tensor([10.0, 0])
    patterns = torch.cat([near, far, torch.tensor([[4.9, 0.0], [5.2, 0.0]])])
    index = Index.of(patterns, cells=2)
    x = torch.tensor([[5.06, 0.0]])
    exact = lookup(x, patterns, torch.full((1, 1), 2000.0)).mean
    bounds = []
    for probes in (1, 2):
        found = index.lookup(x, 2000.0, probes=probes)
        assert found.bound is not None
        bounds.append((float((found.mean - exact).norm()), float(found.bound)))
    assert bounds[0][0] > bounds[0][1]
    assert bounds[1][0] <= bounds[1][1] + 1e-5


def test_cells_with_fewer_patterns_than_asked_promise_nothing() -> None:
    patterns, x = _made(n=400)
    index = Index.of(patterns, cells=10)
    found = index.lookup(x, 1e6, probes=1, top=300)
    assert found.bound is not None
    assert torch.allclose(found.bound, 2 * patterns.norm(dim=1).max())
    assert bool(found.mean.isfinite().all())


def test_small_and_half_precision_stores_have_an_index() -> None:
    one = Index.of(torch.ones(1, 4))
    assert one.cells == 1
    assert torch.equal(one.lookup(torch.zeros(2, 4), 1.0).mean, torch.ones(2, 4))
    patterns, x = _made()
    half = Index.of(patterns.half()).lookup(x, 20.0)
    assert half.mean.dtype == torch.float32
    assert (half.mean - lookup(x, patterns.half(), torch.full((1, 1), 20.0)).mean).abs().median() < 1e-3


def test_the_same_seed_gives_the_same_bits() -> None:
    patterns, x = _made()
    assert torch.equal(Index.of(patterns).lookup(x, 5.0).mean, Index.of(patterns).lookup(x, 5.0).mean)


def test_bad_input_is_refused() -> None:
    patterns, x = _made()
    with pytest.raises(ValueError, match=r"got patterns of shape \(16,\); expected \(n, d\)"):
        Index.of(patterns[0])
    with pytest.raises(ValueError, match="got cells=0; expected at least 1"):
        Index.of(patterns, cells=0)
    index = Index.of(patterns)
    with pytest.raises(ValueError, match=r"got states of shape \(40, 15\); expected \(b, 16\)"):
        index.lookup(x[:, 1:], 1.0)
    with pytest.raises(ValueError, match=r"precision of shape \(1, 16\).*one metric; take lookup for noise by feature"):
        index.lookup(x, torch.ones(1, D))
    with pytest.raises(ValueError, match=r"from 0; expected one number above 0"):
        index.lookup(x, 0.0)
    with pytest.raises(ValueError, match="got top=7, probes=None; expected at least 8 patterns and 1 cell"):
        index.lookup(x, 1.0, top=7)
    with pytest.raises(ValueError, match="got top=32, probes=0"):
        index.lookup(x, 1.0, probes=0)
