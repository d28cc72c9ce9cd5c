"""All paths give the naive sums; streaming holds little; a certified bound bounds; nothing overflows."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.memories import streaming
from mnemotrace.memories.lookup import Found, lookup, scores
from mnemotrace.memories.scores import squared_norms
from mnemotrace.memories.streaming import plan

B, N, D = 5, 300, 7
SMALL = 8 * 9 * D * 8
SHAPES = {"one": (1, 1), "by feature": (1, D), "by state": (B, 1), "each": (B, D)}
EXACT = ("dense", "stream", "auto")


def _draw(seed: int, shape: tuple[int, int], *, scale: float = 1.0, weighted: bool = True) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    made = {
        "x": torch.randn(B, D, generator=g, dtype=torch.float64),
        "patterns": torch.randn(N, D, generator=g, dtype=torch.float64) * (1 + torch.rand(N, 1, generator=g).double()),
        "precision": scale * (0.1 + torch.rand(shape, generator=g, dtype=torch.float64)),
    }
    return made | ({"log_weights": torch.randn(N, generator=g, dtype=torch.float64)} if weighted else {})


def _naive(x: Any, patterns: Any, precision: Any, log_weights: Any = None, norms: bool = True) -> Found:
    """State by state and pattern by pattern, from the density itself."""
    p = precision.expand(len(x), patterns.shape[1])
    found = torch.zeros(len(x), len(patterns), dtype=torch.float64)
    for i, n in itertools.product(range(len(x)), range(len(patterns))):
        gap = (p[i] * (x[i] - patterns[n]).square()).sum() - (p[i] * x[i].square()).sum()
        found[i, n] = -0.5 * gap if norms else (p[i] * x[i] * patterns[n]).sum()
        found[i, n] += 0 if log_weights is None else log_weights[n]
    return Found(torch.softmax(found, 1) @ patterns, torch.logsumexp(found, 1))


@pytest.fixture(scope="module", autouse=True)
def pruning() -> Iterator[None]:
    """Look for negligible patterns in the small stores of these tests too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{lookup.__module__}._SMALL", 0)
        yield


def test_a_small_store_is_summed_whole_and_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _draw(1, SHAPES["one"])
    asked = [_draw(1, SHAPES["one"], scale=scale) for scale in (0.1, 100.0)]
    pruned = [lookup(**each) for each in asked]
    monkeypatch.setattr(f"{lookup.__module__}._SMALL", N * D)
    monkeypatch.setattr(f"{lookup.__module__}._pruned", None)
    for each, wanted in zip(asked, pruned, strict=True):
        found = lookup(**each)
        assert torch.allclose(found.mean, wanted.mean, rtol=0, atol=1e-12)
        assert torch.allclose(found.log_total, wanted.log_total, rtol=1e-13)
    monkeypatch.setattr(f"{lookup.__module__}._SMALL", N * D - 1)
    with pytest.raises(TypeError, match="not callable"):
        lookup(**made)


@pytest.mark.parametrize("path", EXACT)
@pytest.mark.parametrize("norms", [True, False])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_every_exact_path_gives_the_naive_sums(shape: tuple[int, int], norms: bool, path: Any) -> None:
    made = _draw(1, shape)
    wanted = _naive(**made, norms=norms)
    found = lookup(**made, norms=norms, path=path, memory=SMALL)
    assert (found.mean - wanted.mean).abs().max() <= 1e-12
    assert (found.log_total - wanted.log_total).abs().max() <= 1e-12
    assert found.bound is None


@given(
    seed=st.integers(0, 2**31),
    shape=st.sampled_from(list(SHAPES.values())),
    power=st.floats(-6, 4),
    norms=st.booleans(),
    weighted=st.booleans(),
    memory=st.integers(1, 200_000),
)
def test_streaming_equals_dense_at_any_temperature_and_in_any_memory(
    *, seed: int, shape: tuple[int, int], power: float, norms: bool, weighted: bool, memory: int
) -> None:
    made = _draw(seed, shape, scale=10.0**power, weighted=weighted)
    dense = lookup(**made, norms=norms, path="dense")
    streamed = lookup(**made, norms=norms, path="stream", memory=memory)
    kept = made["precision"].requires_grad_()  # a recorded calculation leaves nothing out
    plain = lookup(**(made | {"precision": kept}), norms=norms, path="dense")
    tolerance = 1e-12 * (1 + 10.0**power)
    for found in (streamed, dense):
        assert (found.mean - plain.mean).abs().max() <= tolerance
        assert (found.log_total - plain.log_total).abs().max() <= tolerance


def test_streaming_goes_through_the_patterns_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = _draw(2, (1, 1)), []

    def watched(x: torch.Tensor, rows: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append((len(x), len(rows)))
        return scores(x, rows, *args, **kwargs)

    monkeypatch.setattr(streaming, "scores", watched)
    lookup(**made, path="stream", memory=SMALL)
    assert len(seen) > 10
    assert sum(rows for _, rows in seen) == N
    states = max(states for states, _ in seen)
    assert 8 * (2 * states * max(rows for _, rows in seen) + 4 * states * D) <= SMALL


@given(b=st.integers(1, 5000), d=st.integers(1, 600), memory=st.integers(1 << 20, 1 << 28))
def test_a_plan_keeps_to_the_memory(b: int, d: int, memory: int) -> None:
    rows = torch.empty(0, d).expand(0, d)
    states, part = plan(b, torch.empty(1, d).expand(1_000_000, d), torch.float32, memory)
    assert len(rows) == 0
    assert 1 <= states <= b
    assert 4 * (4 * states * d + part * (2 * states + 3 * d)) <= memory


def test_precision_by_feature_is_not_that_of_all(generator: torch.Generator) -> None:
    made = _draw(3, (1, D))
    made["precision"] = torch.logspace(-3, 3, D, dtype=torch.float64)[None]
    mean = made["precision"].mean().reshape(1, 1)
    assert (lookup(**made).mean - lookup(**(made | {"precision": mean})).mean).abs().max() > 0.1


def test_a_feature_without_precision_is_not_read() -> None:
    made = _draw(4, (1, D), scale=5.0)
    made["precision"][0, 2] = 0
    before = lookup(**made, path="stream").mean
    made["x"][:, 2] = 1e6
    assert torch.equal(lookup(**made, path="stream").mean, before)


@pytest.mark.parametrize("path", ["dense", "stream", "top"])
def test_results_are_the_same_bits_every_time(path: Any) -> None:
    made = {name: t.float() for name, t in _draw(5, (1, 1)).items()}
    first, second = (lookup(**made, path=path) for _ in range(2))
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.log_total, second.log_total)


def test_known_squares_change_nothing() -> None:
    made = _draw(6, (B, 1))
    squares = squared_norms(made["patterns"])
    for path in EXACT:
        assert torch.allclose(lookup(**made, squares=squares, path=path).mean, lookup(**made).mean, atol=1e-13)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("path", ["dense", "stream", "top", "auto"])
def test_half_precision_is_stored_and_never_summed(kind: torch.dtype, path: Any) -> None:
    made = {name: t.float() for name, t in _draw(7, (1, 1)).items()}
    stored = made["patterns"].to(kind)
    wanted = lookup(**{name: t.double() for name, t in made.items()} | {"patterns": stored.double()})
    found = lookup(**(made | {"patterns": stored}), path=path, top=N, memory=SMALL)
    assert found.mean.dtype == torch.float32
    assert (found.mean - wanted.mean).abs().max() < 1e-5
    narrow = lookup(made["x"].to(kind), stored, made["precision"], path=path)
    assert narrow.mean.dtype == torch.float32


@given(seed=st.integers(0, 2**31), power=st.floats(-3, 3), k=st.integers(1, N), weighted=st.booleans())
def test_the_bound_of_the_best_few_bounds(seed: int, power: float, k: int, weighted: bool) -> None:
    made = _draw(seed, (B, 1), scale=10.0**power, weighted=weighted)
    exact, found = lookup(**made), lookup(**made, path="top", top=k)
    assert found.bound is not None
    error = (found.mean - exact.mean).norm(dim=1)
    assert bool((error <= found.bound + 1e-12).all())
    assert torch.allclose(found.log_total, exact.log_total, rtol=1e-13)


def test_the_bound_is_not_idle() -> None:
    """It falls with the temperature, and half of it would not bound two patterns that oppose each other."""
    made = _draw(8, (1, 1), weighted=False)
    warm, cold = (lookup(**made | {"precision": made["precision"] * s}, path="top") for s in (0.01, 1000.0))
    assert warm.bound is not None
    assert cold.bound is not None
    assert cold.bound.max() < 1e-6
    assert warm.bound.min() > 0.5
    pair = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    one, both = lookup(zero, pair, zero, path="top", top=1), lookup(zero, pair, zero)
    assert one.bound is not None
    assert float((one.mean - both.mean).abs()) == pytest.approx(float(one.bound))


@pytest.mark.parametrize("path", ["dense", "stream", "top"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("precision", [1e-6, 1e8])
def test_extreme_temperatures_stay_finite(precision: float, kind: torch.dtype, path: Any) -> None:
    made = {name: t.to(kind) for name, t in _draw(9, (1, 1), weighted=False).items()}
    made["precision"] = torch.full((1, 1), precision, dtype=kind)
    found = lookup(**made, path=path, top=N, memory=SMALL)
    assert bool(found.mean.isfinite().all())
    assert bool(found.log_total.isfinite().all())
    wanted = made["patterns"].mean(0).expand(B, D)
    if precision > 1:
        wanted = made["patterns"][torch.cdist(made["x"], made["patterns"]).argmin(1)]
    assert (found.mean - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("path", ["dense", "stream", "top"])
def test_duplicates_share_and_one_pattern_is_the_answer(path: Any) -> None:
    made = _draw(10, (1, 1), weighted=False)
    one = made["patterns"][:1]
    alone = lookup(made["x"], one, made["precision"], path=path)
    many = lookup(made["x"], one.expand(50, D), made["precision"], path=path, top=50)
    assert torch.allclose(alone.mean, one.expand(B, D), atol=1e-14)
    assert torch.allclose(many.mean, alone.mean, atol=1e-14)
    assert torch.allclose(many.log_total - alone.log_total, torch.full((B,), math.log(50), dtype=torch.float64))


def test_a_weight_counts_as_that_many_copies() -> None:
    made = _draw(11, (1, D), weighted=False)
    copies = torch.arange(N) % 3 + 1
    weighted = lookup(**made, log_weights=copies.double().log(), path="stream", memory=SMALL)
    repeated = lookup(**(made | {"patterns": made["patterns"].repeat_interleave(copies, 0)}))
    assert (weighted.mean - repeated.mean).abs().max() <= 1e-12
    assert (weighted.log_total - repeated.log_total).abs().max() <= 1e-12


@pytest.mark.parametrize("path", ["dense", "auto"])
def test_gradients_pass_through_the_dense_path(path: Any) -> None:
    made = _draw(12, (1, D), scale=3.0)
    x = made["x"].requires_grad_()

    def mean(x: torch.Tensor) -> torch.Tensor:
        return lookup(**(made | {"x": x}), path=path, memory=1).mean

    assert torch.autograd.gradcheck(mean, (x,))
    with pytest.raises(ValueError, match="need gradients on path 'stream'; expected none.*take path='dense'"):
        lookup(**made, path="stream")
    with torch.no_grad():
        assert torch.allclose(lookup(**made, path="stream").mean, mean(x), atol=1e-13)


def test_auto_streams_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    made, calls = _draw(13, (1, 1)), []
    passed = streaming._pass
    monkeypatch.setattr(streaming, "_pass", lambda *a, **k: calls.append(1) or passed(*a, **k))
    fits = 8 * 2 * B * N
    lookup(**made, memory=fits)
    assert not calls
    lookup(**made, memory=fits - 1)
    assert len(calls) == 1
    lookup(**(made | {"precision": made["precision"].expand(1, D)}), memory=fits)  # the squares would be a copy
    assert len(calls) > 1


def test_bad_input_is_refused() -> None:
    made = _draw(14, (1, 1))
    with pytest.raises(ValueError, match=r"got states \(5, 6\), patterns \(300, 7\) .* expected \(b, d\)"):
        lookup(**(made | {"x": made["x"][:, 1:]}))
    with pytest.raises(ValueError, match=r"patterns \(0, 7\)"):
        lookup(**(made | {"patterns": made["patterns"][:0]}))
    with pytest.raises(ValueError, match=r"a precision \(2, 1\); expected .*\(1 or b, 1 or d\)"):
        lookup(**(made | {"precision": torch.ones(2, 1)}))
    with pytest.raises(ValueError, match="got path='fast'; expected one of auto, dense, stream, top"):
        lookup(**made, path="fast")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="got top=0 and memory=67108864; expected at least 1 pattern and 1 byte"):
        lookup(**made, path="top", top=0)
    with pytest.raises(ValueError, match="got top=32 and memory=0"):
        lookup(**made, memory=0)
