import math

import pytest
import torch

from mnemotrace.modification.beliefs.dags import enumerate_dags
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.exact import entropy_bits, log_joint
from mnemotrace.modification.beliefs.families import BDeu, family_table
from mnemotrace.modification.beliefs.questions import ask, expected_gain, likeliest, outcomes, predictive_table

SCORE = BDeu((2, 2, 2))


def _chain(n: int = 60) -> Evidence:
    source = torch.Generator().manual_seed(0)
    a = torch.randint(0, 2, (n,), generator=source)
    b = torch.where(torch.rand(n, generator=source) < 0.9, a, 1 - a)
    c = torch.where(torch.rand(n, generator=source) < 0.9, b, 1 - b)
    return Evidence.observed(torch.stack([a, b, c], 1))


def _posterior(evidence: Evidence) -> torch.Tensor:
    return torch.log_softmax(log_joint(family_table(SCORE, evidence), enumerate_dags(3)), 0)


@pytest.mark.parametrize("do", [None, (1, 0), (0, 1)])
def test_the_gain_is_the_entropy_that_answers_take_away_on_average(do: tuple[int, int] | None) -> None:
    dags, evidence, joint = enumerate_dags(3), _chain(), outcomes(SCORE.arities)
    before = _posterior(evidence)
    table = predictive_table(SCORE, evidence, joint)
    expected = entropy_bits(before.exp())
    rows = joint if do is None else joint[joint[:, do[0]] == do[1]]
    for y in rows:
        grown = evidence + Evidence.observed(y[None], do=[] if do is None else [do[0]])
        whole = log_joint(family_table(SCORE, grown), dags)
        chance = torch.logsumexp(whole, 0) - torch.logsumexp(log_joint(family_table(SCORE, evidence), dags), 0)
        expected -= float(chance.exp()) * entropy_bits(torch.softmax(whole, 0))
    assert expected_gain(table, joint, dags, before.exp(), do) == pytest.approx(expected, abs=1e-9)


def test_setting_the_middle_of_a_chain_tells_more_than_looking() -> None:
    evidence = _chain()
    names = {None: None, ("b", "no"): (1, 0), ("b", "yes"): (1, 1)}
    found = ask(SCORE, evidence, enumerate_dags(3), _posterior(evidence).exp(), names)
    assert found.variable == "b"
    assert found.gain > 2 * found.gains[None] >= 0
    assert found.mass > 0.999


def test_what_is_known_for_sure_leaves_nothing_to_ask() -> None:
    posterior = torch.zeros(25, dtype=torch.float64)
    posterior[3] = 1
    found = ask(SCORE, _chain(), enumerate_dags(3), posterior, {None: None})
    assert found.gain == pytest.approx(0, abs=1e-12)


def test_the_likeliest_graphs_hold_nearly_all() -> None:
    kept, mass = likeliest(torch.tensor([0.5, 0.3, 0.19995, 0.00005], dtype=torch.float64))
    assert kept.tolist() == [0, 1, 2]
    assert mass == pytest.approx(0.99995)
    with pytest.raises(ValueError, match="got 16384 joint states; expected at most 4096"):
        outcomes((128, 128))
    assert math.prod(outcomes((2, 3)).shape) == 12
