import math

import pytest
import torch

from mnemotrace.modification.beliefs.elimination import Tombstones, factors, require_rule

LOG = torch.tensor([0.0, -1.0, -20.0, -3.0], dtype=torch.float64)


def test_a_graph_is_laid_aside_only_after_patience() -> None:
    stones = Tombstones.none(4)
    once = stones.after(LOG, kappa=6, patience=2)
    assert not bool(once.dead.any())
    twice = once.after(LOG, kappa=6, patience=2)
    assert twice.dead.tolist() == [False, False, True, False]
    assert twice.alive.tolist() == [0, 1, 3]


def test_a_better_update_in_between_begins_the_count_anew() -> None:
    stones = Tombstones.none(4).after(LOG, kappa=6, patience=2).after(LOG * 0, kappa=6, patience=2)
    assert not bool(stones.after(LOG, kappa=6, patience=2).dead.any())


def test_an_audit_brings_back_what_is_within_the_factor() -> None:
    stones = Tombstones.none(4).after(LOG, kappa=1, patience=1)
    assert stones.dead.tolist() == [False, False, True, True]
    now = torch.tensor([-5.0, -1.0, -2.0, -20.0], dtype=torch.float64)
    assert stones.audited(now, kappa=1).dead.tolist() == [False, False, False, True]
    assert not bool(stones.audited(now, kappa=math.inf).dead.any())


def test_the_factor_is_to_base_ten() -> None:
    assert float(factors(torch.tensor([0.0, -math.log(1e6)], dtype=torch.float64))[1]) == pytest.approx(6)
    with pytest.raises(ValueError, match="got kappa=0 and patience=2"):
        require_rule(0, 2)
    with pytest.raises(ValueError, match="patience=0"):
        require_rule(6, 0)
