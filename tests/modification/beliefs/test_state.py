import math
from typing import Any

import pytest
import torch

from mnemotrace.modification.beliefs.dags import enumerate_dags
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.exact import log_joint
from mnemotrace.modification.beliefs.families import BDeu, family_table
from mnemotrace.modification.beliefs.state import Beliefs

COINS = dict.fromkeys("abc", ("no", "yes"))


def _rows(n: int, do: dict[int, int] | None = None, seed: int = 0) -> torch.Tensor:
    """Chain a -> b -> c, each a copy of its cause nine times in ten."""
    source, set_to = torch.Generator().manual_seed(seed), do or {}
    found: list[torch.Tensor] = []
    for i in range(3):
        free = torch.randint(0, 2, (n,), generator=source)
        same = torch.rand(n, generator=source) < 0.9
        caused = torch.where(same, found[-1], 1 - found[-1]) if i else free
        found.append(torch.full((n,), set_to[i]) if i in set_to else caused)
    return torch.stack(found, 1)


def _lived() -> Beliefs:
    """Everyday observation, a memory that has cause and effect the wrong way round, then two experiments."""
    beliefs = Beliefs(COINS)
    beliefs.observe(_rows(80), note="watching")
    beliefs.remember({"a": "yes", "b": "yes"}, explains={"a": "b"}, note="that day")
    beliefs.remember({"c": "no"}, explains={"c": ["b"]})
    beliefs.observe(_rows(60, {1: 1}, 1), do="b", note="b was set")
    beliefs.observe(_rows(60, {0: 0}, 2), do=["a"])
    return beliefs


def test_experiments_resolve_what_watching_cannot() -> None:
    beliefs = Beliefs(COINS)
    beliefs.observe(_rows(2000))
    chain, fork = (beliefs.graphs.index(e) for e in ([(0, 1), (1, 2)], [(1, 0), (1, 2)]))
    assert float(beliefs.posterior[chain]) == pytest.approx(float(beliefs.posterior[fork]), rel=1e-9)
    beliefs.observe(_rows(60, {1: 1}, 1), do="b")
    assert float(beliefs.posterior[chain]) > 0.99
    assert beliefs.best() == (("a", "b"), ("b", "c"))
    assert beliefs.edge("a", "b") > 0.99
    assert beliefs.edge("b", "a") < 0.01


def test_surprise_is_what_the_evidence_costs_and_adds_up() -> None:
    one, two = Beliefs(COINS, kappa=math.inf), Beliefs(COINS, kappa=math.inf)
    whole = one.observe(_rows(30)).surprise
    parts = [two.observe(_rows(30)[i : i + 10]).surprise for i in (0, 10, 20)]
    assert sum(parts) == pytest.approx(whole, abs=1e-9)
    joint = log_joint(family_table(BDeu((2, 2, 2)), Evidence.observed(_rows(30))), enumerate_dags(3))
    assert whole == pytest.approx(-float(torch.logsumexp(joint, 0)), abs=1e-9)
    assert torch.allclose(one.posterior, two.posterior, atol=1e-12)


def test_a_memory_is_told_anew_when_its_support_falls_and_its_facts_stay() -> None:
    beliefs = _lived()
    wrong, right = beliefs.memory(0), beliefs.memory(1)
    assert wrong.status == "revised"
    assert right.status == "held"
    assert wrong.text(0) == "a = yes because b = yes"
    assert wrong.text() == "a = yes, for a reason that is not among the variables"
    assert dict(wrong.facts) == {"a": "yes", "b": "yes"}
    assert wrong.versions[1].time == 4
    assert beliefs.log[3].found["revised"] == (0,)
    assert wrong.versions[1].support > 0.95


def test_a_revision_can_be_taken_back_by_hand() -> None:
    beliefs = _lived()
    told = beliefs.restore(0)
    assert told.now.explains == told.versions[0].explains
    assert told.now.reason == "restored"
    assert told.now.support < 0.05
    assert told.status == "held"


def test_the_log_lived_again_gives_the_same_bits() -> None:
    beliefs = _lived()
    beliefs.audit(math.inf)
    beliefs.restore(0)
    again = Beliefs.replay(beliefs.settings, beliefs.log)
    assert torch.equal(again.posterior, beliefs.posterior)
    assert again.memories == beliefs.memories
    assert [a.to_json() for a in again.log] == [a.to_json() for a in beliefs.log]


def test_undo_is_exact() -> None:
    beliefs = _lived()
    posterior, memories = beliefs.posterior, beliefs.memories
    beliefs.observe(_rows(5, seed=9))
    assert beliefs.undo().name == "observe"
    assert torch.equal(beliefs.posterior, posterior)
    assert beliefs.memories == memories
    with pytest.raises(ValueError, match="got no act to take back"):
        Beliefs(COINS).undo()


def test_graphs_are_laid_aside_and_an_audit_brings_them_back() -> None:
    hasty, never = Beliefs(COINS, kappa=0.5, patience=1), Beliefs(COINS, kappa=math.inf)
    for seed in range(4):
        update = hasty.observe(_rows(8, seed=seed))
        never.observe(_rows(8, seed=seed))
    dead = hasty.tombstones.dead
    assert 0 < int(dead.sum()) < len(dead)
    assert float(hasty.posterior[dead].max()) == 0
    alive = never.posterior * ~dead
    assert torch.allclose(hasty.posterior, alive / alive.sum(), atol=1e-12)
    assert not bool(never.tombstones.dead.any())
    assert hasty.audit(math.inf) == int(dead.sum())
    assert torch.allclose(hasty.posterior, never.posterior, atol=1e-12)
    assert update.eliminated == len(update.listed) or len(update.listed) == 20


def test_one_log_one_file_one_posterior() -> None:
    beliefs = _lived()
    again = Beliefs.unpack(beliefs.pack())
    assert torch.equal(again.posterior, beliefs.posterior)
    assert torch.equal(again.tombstones.streak, beliefs.tombstones.streak)
    assert again.memories == beliefs.memories
    assert again.versions(0) == beliefs.memory(0).versions
    assert again.observe(_rows(20, seed=5)) == beliefs.observe(_rows(20, seed=5))
    again.undo()
    assert len(again.log) == len(beliefs.log) - 1


def test_an_update_says_what_came_back() -> None:
    beliefs = Beliefs(COINS, kappa=0.5, patience=1)
    unlike = torch.tensor([[0, 1, 0], [1, 0, 1]] * 20)  # as often as the chain says they are alike
    found = [beliefs.observe(rows) for rows in (_rows(40), unlike)]
    gone, back = sum(u.eliminated for u in found), sum(u.readmitted for u in found)
    assert back > 0
    assert gone - back == int(beliefs.tombstones.dead.sum())


def test_plots_given_by_hand_are_weighed_alone() -> None:
    plots = [[("a", "b"), ("b", "c")], [("b", "a"), ("b", "c")], []]
    beliefs = Beliefs(COINS, graphs=plots, log_prior=[0.0, 0.0, -1.0])
    beliefs.observe(_rows(50))
    assert len(beliefs.posterior) == 3
    assert float(beliefs.posterior[2]) < 1e-6
    beliefs.observe(_rows(60, {1: 1}, 1), do="b")
    assert beliefs.best() == (("a", "b"), ("b", "c"))
    again = Beliefs.unpack(beliefs.pack())
    assert torch.equal(again.posterior, beliefs.posterior)


def test_numbers_are_scored_by_bge() -> None:
    source = torch.Generator().manual_seed(0)
    x = torch.randn(200, generator=source, dtype=torch.float64)
    y = 0.9 * x + 0.3 * torch.randn(200, generator=source, dtype=torch.float64)
    beliefs = Beliefs(["x", "y"])
    beliefs.observe(torch.stack([x, y], 1))
    assert beliefs.edge("x", "y") == pytest.approx(0.5, abs=1e-6)
    beliefs.observe(torch.stack([torch.full((40,), 1.5, dtype=torch.float64), 1.3 + 0.3 * y[:40]], 1), do="x")
    assert beliefs.edge("x", "y") > 0.99
    with pytest.raises(ValueError, match="expected states and method='exact'"):
        beliefs.next_question()


def test_the_next_question_is_an_experiment_and_names_are_checked() -> None:
    beliefs = Beliefs(COINS)
    beliefs.observe(_rows(80))
    found = beliefs.next_question()
    assert found.variable in COINS
    assert found.gain > found.gains[None]
    assert beliefs.next_question([("c", "yes")]).state == "yes"
    with pytest.raises(ValueError, match="got a = 'maybe'; expected one of no, yes"):
        beliefs.next_question([("a", "maybe")])
    with pytest.raises(ValueError, match="got no candidate"):
        beliefs.next_question([])


def test_probabilities_are_by_name_and_support_is_of_all_edges_together() -> None:
    beliefs = _lived()
    assert beliefs.probabilities()["a", "b"] == beliefs.edge("a", "b")
    assert beliefs.support([]) == pytest.approx(1)
    assert beliefs.support([("a", "b"), ("b", "c")]) <= beliefs.edge("a", "b") + 1e-12
    assert beliefs.support([("a", "b"), ("b", "a")]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variables": {"a": ("x",)}}, "expected different names, each with two or more states"),
        ({"variables": "abc"}, "expected {name: states} for bdeu and a list of names for bge"),
        ({"score": "bic"}, "got score='bic'; expected bdeu"),
        ({"score": "bge"}, "got dict of variables and score='bge'"),
        ({"method": "guess"}, "got method='guess'; expected auto, exact, order or search"),
        ({"graphs": [[("a", "b"), ("b", "a")]]}, "without a cycle"),
        ({"graphs": [[("a", "z")]]}, "expected edges (cause, effect) among a, b, c"),
        ({"graphs": []}, "got 0 plots; expected at least one"),
        ({"graphs": [[]], "method": "order"}, "got plots and method='order'"),
        ({"log_prior": [0.0]}, "expected 25 finite numbers"),
        ({"kappa": -1}, "got kappa=-1"),
        ({"variables": {f"v{i}": ("a", "b") for i in range(7)}, "method": "exact"}, "got 7 variables; expected 1 to 6"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"variables": COINS} | change
    with pytest.raises(ValueError) as caught:
        Beliefs(given.pop("variables"), **given)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ([], TypeError, "got list as rows"),
        ([{"a": "yes", "b": "no"}], ValueError, "got a row with a, b; expected all of a, b, c"),
        ([{"a": "yes", "b": "no", "c": "?"}], ValueError, "got c = '?'; expected one of no, yes"),
        (torch.zeros(2, 2, dtype=torch.long), ValueError, "got rows (2, 2); expected (n, 3)"),
        (torch.zeros(0, 3, dtype=torch.long), ValueError, "at least one row"),
        (torch.zeros(2, 3), TypeError, "got rows of torch.float32; expected states as integers"),
        (torch.full((1, 3), 2), ValueError, "got state 2 of variable 0"),
    ],
)
def test_rows_that_do_not_fit_change_nothing(rows: object, kind: type[Exception], message: str) -> None:
    beliefs = _lived()
    before, log = beliefs.posterior, beliefs.log
    with pytest.raises(kind) as caught:
        beliefs.observe(rows)
    assert message in str(caught.value)
    assert torch.equal(beliefs.posterior, before)
    assert beliefs.log == log


def test_names_that_are_not_there_are_refused() -> None:
    beliefs = _lived()
    with pytest.raises(ValueError, match="got the variable 'z'; expected one of a, b, c"):
        beliefs.observe(_rows(3), do="z")
    with pytest.raises(KeyError, match="got memory 7; expected a number below 2"):
        beliefs.memory(7)
    with pytest.raises(ValueError, match="got a = 'perhaps'"):
        beliefs.remember({"a": "perhaps"}, explains={"a": "b"})
    with pytest.raises(IndexError):
        beliefs.restore(0, 9)
    assert len(beliefs.log) == 5
