"""Memories told anew: when, under which causes, and what stays."""

import pytest
import torch

from mnemotrace.modification.beliefs.accounts import LOST, Account, Version
from mnemotrace.modification.beliefs.dags import DAGs, masks_of
from mnemotrace.modification.beliefs.retelling import causes_of, retold, support, supported

NAMES = ("a", "b", "c")
PLOTS = [[(0, 2)], [(1, 2)], [(0, 2), (1, 2)], []]
GRAPHS = DAGs(torch.tensor([masks_of(plot, 3) for plot in PLOTS], dtype=torch.uint8))


def _weights(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _account(*causes: str) -> Account:
    return Account(0, {"a": "x", "c": "y"}, (Version({"c": causes}, 1, 0.5, "remembered"),))


def test_support_is_the_weight_of_the_graphs_that_hold_all_edges() -> None:
    w = _weights(0.4, 0.3, 0.2, 0.1)
    assert support([("a", "c")], NAMES, GRAPHS, w) == pytest.approx(0.6)
    assert support([("a", "c"), ("b", "c")], NAMES, GRAPHS, w) == pytest.approx(0.2)
    assert support([("c", "a")], NAMES, GRAPHS, w) == 0
    assert support([], NAMES, GRAPHS, w) == pytest.approx(1)


def test_the_most_probable_set_of_causes_is_told() -> None:
    assert causes_of("c", NAMES, GRAPHS, _weights(0.4, 0.3, 0.2, 0.1)) == ("a",)
    assert causes_of("c", NAMES, GRAPHS, _weights(0.1, 0.2, 0.6, 0.1)) == ("a", "b")
    assert causes_of("a", NAMES, GRAPHS, _weights(0.1, 0.2, 0.6, 0.1)) == ()


def test_it_is_told_anew_only_below_the_bound() -> None:
    at, below = LOST, LOST - 1e-6
    kept, revised = retold([_account("a")], NAMES, GRAPHS, _weights(at, 1 - at, 0, 0), time=7)
    assert revised == ()
    assert len(kept[0].versions) == 1
    told, revised = retold([_account("a")], NAMES, GRAPHS, _weights(below, 1 - below, 0, 0), time=7)
    assert revised == (0,)
    assert told[0].now == Version({"c": ("b",)}, 7, 1 - below, "revised")
    assert told[0].versions[0] == _account("a").versions[0]
    assert told[0].facts == _account("a").facts


def test_evidence_that_turns_back_tells_the_first_story_again() -> None:
    (told,), _ = retold([_account("a")], NAMES, GRAPHS, _weights(0, 1, 0, 0), time=2)
    assert told.status == "revised"
    (back,), revised = retold([told], NAMES, GRAPHS, _weights(1, 0, 0, 0), time=3)
    assert revised == (0,)
    assert back.status == "held"
    assert len(back.versions) == 3


def test_what_is_still_the_best_story_stays_without_support() -> None:
    thin = _weights(*[0.03] * 3, 0.01)
    (told,), revised = retold([_account("a")], NAMES, GRAPHS, thin, time=2)
    assert support([("a", "c"), ("b", "c")], NAMES, GRAPHS, thin) < LOST
    assert revised == ()
    assert told.now.explains == {"c": ("a",)}


def test_a_memory_without_a_cause_is_told_again_when_one_becomes_clear() -> None:
    unknown = _account()
    (kept,), revised = retold([unknown], NAMES, GRAPHS, _weights(0.3, 0.1, 0.1, 0.5), time=2)
    assert revised == ()
    assert kept is unknown
    (told,), revised = retold([unknown], NAMES, GRAPHS, _weights(0.4, 0.0, 0.15, 0.45), time=3)
    assert revised == ()  # a cause is likelier than none, yet no set of causes is as likely as none
    (told,), revised = retold([unknown], NAMES, GRAPHS, _weights(0.6, 0.3, 0.1, 0.0), time=3)
    assert revised == (0,)
    assert told.now.explains == {"c": ("a",)}
    assert told.now.support == pytest.approx(0.7)
    assert supported({"c": ()}, NAMES, GRAPHS, _weights(0.4, 0.3, 0.2, 0.1)) == pytest.approx(0.1)
