import math

import pytest
import torch

from mnemotrace.modification.beliefs.dags import enumerate_dags
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.exact import (
    divergence_bits,
    edge_probabilities,
    entropy_bits,
    family_mass,
    log_joint,
)
from mnemotrace.modification.beliefs.families import BDeu, family_table

SCORE = BDeu((2, 3, 2))


def _evidence(n: int = 30) -> Evidence:
    source = torch.Generator().manual_seed(0)
    return Evidence.observed(torch.stack([torch.randint(0, a, (n,), generator=source) for a in SCORE.arities], 1))


def test_the_posterior_is_that_of_every_graph_scored_by_hand() -> None:
    dags, evidence = enumerate_dags(3), _evidence()
    log_prior = torch.linspace(-2, 0, len(dags), dtype=torch.float64)
    by_hand = [
        math.exp(
            sum(float(SCORE.local(evidence, i, [int(dags.parents[g, i])])) for i in range(3)) + float(log_prior[g])
        )
        for g in range(len(dags))
    ]
    found = torch.softmax(log_joint(family_table(SCORE, evidence), dags, log_prior), 0)
    assert torch.allclose(found, torch.tensor(by_hand, dtype=torch.float64) / sum(by_hand), atol=1e-12)


def test_without_evidence_all_graphs_are_equally_probable() -> None:
    dags = enumerate_dags(3)
    joint = log_joint(family_table(SCORE, Evidence.nothing(3)), dags)
    assert torch.allclose(joint.exp(), torch.full((25,), 1 / 25, dtype=torch.float64))
    assert entropy_bits(joint.exp()) == pytest.approx(math.log2(25))
    assert float(torch.logsumexp(joint, 0)) == pytest.approx(0, abs=1e-12)


def test_as_many_rows_tell_directions_apart_only_when_something_was_set() -> None:
    dags, score = enumerate_dags(2), BDeu((2, 2))
    forth, back = dags.index([(0, 1)]), dags.index([(1, 0)])
    source = torch.Generator().manual_seed(4)
    cause = torch.randint(0, 2, (60,), generator=source)
    rows = torch.stack([cause, torch.where(torch.rand(60, generator=source) < 0.9, cause, 1 - cause)], 1)
    seen, done = (
        log_joint(family_table(score, Evidence.observed(rows[:30]) + Evidence.observed(rows[30:], do=do)), dags)
        for do in ((), (0,))
    )
    assert float(seen[forth] - seen[back]) == pytest.approx(0, abs=1e-10)
    assert float(done[forth] - done[back]) > 3


def test_the_surprise_of_rows_is_their_averaged_prediction() -> None:
    """Difference of two normalisers against the mean over graphs, weighted by the posterior before."""
    dags, before, more = enumerate_dags(3), _evidence(20), _evidence(7)
    old, new = (log_joint(family_table(SCORE, e), dags) for e in (before, before + more))
    averaged = (torch.softmax(old, 0) * (new - old).exp()).sum().log()
    assert float(torch.logsumexp(new, 0) - torch.logsumexp(old, 0)) == pytest.approx(float(averaged), abs=1e-10)


def test_edges_are_sums_over_graphs() -> None:
    dags = enumerate_dags(4)
    posterior = torch.softmax(torch.randn(543, generator=torch.Generator().manual_seed(1), dtype=torch.float64), 0)
    dense = (posterior[:, None, None] * dags.adjacency().double()).sum(0)
    assert torch.allclose(edge_probabilities(posterior, dags), dense, atol=1e-12)
    assert torch.allclose(family_mass(posterior, dags).sum(1), torch.ones(4, dtype=torch.float64))


def test_divergence_is_zero_for_itself_and_infinite_states_do_not_count() -> None:
    a = torch.log_softmax(torch.tensor([1.0, 2.0, -torch.inf], dtype=torch.float64), 0)
    b = torch.log_softmax(torch.tensor([2.0, 1.0, -torch.inf], dtype=torch.float64), 0)
    assert divergence_bits(a, a) == 0
    p, q = a.exp()[:2], b.exp()[:2]
    assert divergence_bits(a, b) == pytest.approx(float((p * (p / q).log2()).sum()))


def test_evidence_adds_and_refuses_what_does_not_fit() -> None:
    both = _evidence(4) + Evidence.observed(_evidence(2).values, do=[1])
    assert len(both) == 6
    assert len(both.about(1)) == 4
    assert len(both.about(0)) == 6
    assert len(both[:3]) == 3
    with pytest.raises(ValueError, match=r"got 3 variables of torch.int64 and 2 of torch.int64; expected the same"):
        both + Evidence.nothing(2)
    with pytest.raises(TypeError, match="got torch.int64 as intervened; expected a boolean tensor"):
        Evidence(both.values, both.values)
    with pytest.raises(TypeError, match="got list as values"):
        Evidence([[1]], torch.ones(1, 1, dtype=torch.bool))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got list as values"):
        Evidence.observed([[1]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got do=\[-1\]; expected nodes from 0 to 2"):
        Evidence.observed(both.values, do=[-1])
    with pytest.raises(ValueError, match="got state -3; expected states from 0"):
        Evidence.observed(both.values - 3)
    with pytest.raises(ValueError, match="got 4 non-finite of 4 entries in the values"):
        Evidence.observed(torch.full((2, 2), torch.nan))
    with pytest.raises(ValueError, match=r"got values \(6, 3\) and intervened \(3,\)"):
        Evidence(both.values, torch.zeros(3, dtype=torch.bool))
