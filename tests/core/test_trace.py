"""Engrams: a vector space over sites."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.errors import SelectionError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site
from mnemotrace.core.trace import Engram

NAMES = ("h.0.up", "h.0.down", "h.1.up")


def make(seed: int, names: tuple[str, ...] = NAMES) -> Engram:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    sites = {name: Site(name, f"{name}.weight", 4, 3, f"{name}.bias") for name in names}
    traces = {name: LowRank(site, draw(4, 2), draw(2, 4)) for name, site in sites.items()}
    evidence = {name: {"relative_norm": 0.5} for name in names}
    return Engram(traces, evidence, {"base": {"weights": "x"}, "method": "engram"})


def dense(engram: Engram) -> dict[str, torch.Tensor]:
    return {name: trace.dense() for name, trace in engram.items()}


seeds = st.integers(0, 2**31)


@given(seeds, seeds, st.floats(-3, 3))
def test_algebra_is_that_of_the_dense_matrices(first: int, second: int, factor: float) -> None:
    a, b = make(first), make(second)
    for name in NAMES:
        x, y = dense(a)[name], dense(b)[name]
        torch.testing.assert_close(dense(a + b)[name], x + y)
        torch.testing.assert_close(dense(a - b)[name], x - y)
        torch.testing.assert_close(dense(-a)[name], -x)
        torch.testing.assert_close(dense(factor * a)[name], factor * x)
        torch.testing.assert_close(dense(a.scaled(dict.fromkeys(NAMES, factor)))[name], factor * x)


@given(seeds, seeds)
def test_overlap_is_the_cosine_over_all_sites(first: int, second: int) -> None:
    a, b = make(first), make(second)
    x, y = (torch.cat([m.flatten() for m in dense(e).values()]) for e in (a, b))
    assert a.overlap(b) == pytest.approx(float(torch.cosine_similarity(x, y, dim=0)))
    assert a.overlap(-1.0 * a) == pytest.approx(-1)
    assert a.overlap(a * 0.0) == 0


def test_a_site_that_only_one_has_is_taken_as_it_is() -> None:
    a, b = make(0, NAMES[:2]), make(1, NAMES[1:])
    total = a + b
    assert set(total) == set(NAMES)
    assert total["h.0.up"] is a["h.0.up"]
    torch.testing.assert_close(total["h.0.down"].dense(), a["h.0.down"].dense() + b["h.0.down"].dense())
    assert -1 < a.overlap(b) < 1


def test_what_was_measured_is_kept_by_choosing_and_dropped_by_changing() -> None:
    a = make(0)
    assert a.select(["up"]).evidence == {name: a.evidence[name] for name in ("h.0.up", "h.1.up")}
    assert list(a.select(layers=[0])) == ["h.0.up", "h.0.down"]
    assert a.to(torch.float32).evidence == a.evidence
    assert a.to(torch.float32)["h.0.up"].left.dtype == torch.float32
    for changed in (a + a, 2.0 * a, a.truncated(rank=1)):
        assert not changed.evidence
    with pytest.raises(SelectionError, match=r"choose among h\.0\.up"):
        a.select(["absent"])


def test_a_sum_remembers_its_parts_and_the_base_they_share() -> None:
    a, b = make(0), make(1)
    assert (a + b).manifest["parts"] == [dict(a.manifest), dict(b.manifest)]
    assert (a + b).manifest["base"] == {"weights": "x"}
    assert "base" not in (a + Engram(b.traces, manifest={"base": {"weights": "y"}})).manifest


def test_truncation_cuts_every_site() -> None:
    a = make(0)
    assert [trace.rank for trace in a.truncated(rank=1).values()] == [1, 1, 1]
    assert [trace.rank for trace in a.truncated(energy=1e-6).values()] == [1, 1, 1]
    for name, norm in a.norms().items():
        assert a.truncated(rank=1).norms()[name] < norm == pytest.approx(float(a[name].dense().norm()))


def test_bytes_count_a_shared_factor_once() -> None:
    a = make(0)
    right = a["h.0.up"].right
    shared = Engram({name: LowRank(trace.site, trace.left, right) for name, trace in a.items()})
    assert shared.nbytes == 8 * (3 * 4 * 2 + 2 * 4)
