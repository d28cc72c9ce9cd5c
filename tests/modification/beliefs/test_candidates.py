"""The table holds what the score says, the likeliest parents only, and tells that it left some out."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.modification.beliefs.candidates import score_families
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.families import BDeu
from mnemotrace.modification.beliefs.network import draw_network


@dataclass(frozen=True)
class Broken:
    def local(self, evidence: Evidence, node: int, parent_sets: list[int]) -> Tensor:
        return torch.full((len(parent_sets),), torch.nan)


def test_an_entry_is_the_score_of_its_family() -> None:
    g = torch.Generator().manual_seed(0)
    net = draw_network(6, generator=g)
    rows, score = net.sample(100, generator=g), BDeu(net.arities)
    families = score_families(score, rows, max_parents=2, most=3)
    assert families.restricted
    assert families.masks.shape == (6, 1 + 3 + 3)
    for i in range(6):
        assert len(families.candidates(i)) == 3
        sets = families.masks[i].tolist()
        torch.testing.assert_close(families.scores[i], score.local(rows, i, sets))
    assert not score_families(score, rows, most=5).restricted


def test_a_weak_cause_is_not_crowded_out_by_strong_effects() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2000, generator=g) < 0.5 for _ in range(2))
    node = torch.rand(2000, generator=g) < torch.tensor([[0.05, 0.05], [0.5, 0.95]])[a.long(), b.long()]
    effects = [node ^ (torch.rand(2000, generator=g) < 0.25) for _ in range(3)]
    rows = Evidence.observed(torch.stack([node, a, b, *effects], 1).long())
    score = BDeu((2,) * 6)
    single = score.local(rows, 0, [1 << j for j in range(1, 6)])
    assert int(single.argmin()) + 1 == 2  # alone, b tells least
    assert 2 in score_families(score, rows, max_parents=2, most=3).candidates(0)
    assert score_families(score, rows, max_parents=2, most=1).candidates(0) == (int(single.argmax()) + 1,)


def test_impossible_limits_and_scores_are_refused() -> None:
    rows = Evidence.observed(torch.zeros(4, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="at least one row"):
        score_families(BDeu((2, 2, 2)), Evidence.nothing(3))
    with pytest.raises(ValueError, match="2 to 62 variables"):
        score_families(BDeu((2,)), Evidence.observed(torch.zeros(4, 1, dtype=torch.long)))
    with pytest.raises(ValueError, match="at least 1 of both"):
        score_families(BDeu((2, 2, 2)), rows, max_parents=0)
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        score_families(Broken(), rows)
