"""Graphs weighed on growing evidence: what is laid aside, what comes back, and what a step is worth."""

import math

import pytest
import torch

from mnemotrace.modification.beliefs.dags import enumerate_dags
from mnemotrace.modification.beliefs.elimination import Tombstones
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.families import BDeu, family_table
from mnemotrace.modification.beliefs.weighing import Exact

NAMES, SCORE, DAGS = ("a", "b"), BDeu((2, 2)), enumerate_dags(2)
EQUAL, UNEQUAL = torch.tensor([[0, 0], [1, 1]] * 6), torch.tensor([[0, 1], [1, 0]] * 6)


def _start() -> Exact:
    nothing = Evidence.nothing(2)
    return Exact(NAMES, SCORE, DAGS, None, Tombstones.none(3), nothing, family_table(SCORE, nothing))


def test_without_evidence_all_are_alike() -> None:
    assert torch.allclose(_start().weights, torch.full((3,), 1 / 3, dtype=torch.float64))
    assert float(_start().edges[0, 1]) == pytest.approx(1 / 3)


def test_what_is_laid_aside_comes_back_when_evidence_turns() -> None:
    empty = DAGS.index([])
    tied, first = _start().after(Evidence.observed(EQUAL), kappa=1, patience=1)
    assert tied.tombstones.dead.tolist() == [k == empty for k in range(3)]
    assert (first.eliminated, first.readmitted) == (1, 0)
    assert first.listed[0].edges == ()
    assert first.listed[0].factor > 1
    assert first.listed[0].families
    both = Evidence.observed(torch.cat([EQUAL, UNEQUAL]))
    turned, second = tied.after(both, kappa=1, patience=1)
    assert (second.eliminated, second.readmitted) == (0, 1)
    assert not bool(turned.tombstones.dead.any())
    never = _start().after(both, kappa=math.inf, patience=1)[0]
    assert torch.equal(turned.weights, never.weights)
    assert float(turned.weights[empty]) > 0.5


def test_the_gain_is_the_divergence_and_no_evidence_is_no_surprise() -> None:
    grown, shift = _start().after(Evidence.observed(EQUAL), kappa=math.inf, patience=1)
    w = grown.weights
    assert shift.gain == pytest.approx(float((w * (w * 3).log2()).sum()), abs=1e-12)
    same = grown.after(grown.evidence, kappa=math.inf, patience=1)[1]
    assert same.surprise == pytest.approx(0, abs=1e-12)
    assert same.gain == pytest.approx(0, abs=1e-12)


def test_an_audit_scores_what_is_laid_aside() -> None:
    tied = _start().after(Evidence.observed(EQUAL), kappa=1, patience=1)[0]
    assert bool(tied.audited(1).tombstones.dead.any())
    assert not bool(tied.audited(math.inf).tombstones.dead.any())
