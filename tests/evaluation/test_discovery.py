"""A network with four planted concepts: they are found without labels, and their engrams are those of the labels."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mnemotrace.core.artifact import read, write
from mnemotrace.core.errors import SelectionError
from mnemotrace.evaluation.discovery import discover
from mnemotrace.evaluation.found_concepts import Discovery
from tests.core.zoo import bits, same_bits
from tests.localisation.test_active_latents import codes
from tests.localisation.test_partitions import planted

X, LABELS = planted(160)
QUICK: dict[str, Any] = {"sites": ["1"], "draws": 1, "solver": "ridge", "rcond": 1e-3, "method": "agglomerative"}


def _trained() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 16, bias=False), nn.ReLU(), nn.Linear(16, 4, bias=False))
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(X), LABELS).backward()
        optimiser.step()
    return model


MODEL = _trained()


@pytest.fixture(scope="module")
def found() -> Discovery:
    before = bits(MODEL)
    result = discover(MODEL, X, count=4, labels=LABELS, **QUICK)
    assert same_bits(bits(MODEL), before)
    return result


def test_planted_concepts_are_found_and_proven(found: Discovery) -> None:
    assert found.structured
    assert len(found.found) >= 3  # one random trace of a 16-unit network may by chance hit a group
    assert found.agreement["discovered"].rand > 0.9
    assert sorted(found.matches().values()) == [0, 1, 2, 3]
    for one in found.of("discovered"):
        assert one.criteria is not None
        assert one.criteria["necessity"].value > 0.6
        assert one.criteria["specificity"].value > 0.5


def test_engrams_of_discovered_concepts_are_those_of_the_labels(found: Discovery) -> None:
    assert found.overlap is not None
    matched = {(i, found.classes.index(c)) for i, c in found.matches().items()}
    for i in range(4):
        for j in range(4):
            cosine = float(found.overlap[i, j])
            assert cosine > 0.9 if (i, j) in matched else cosine < 0.6
    means = {
        kind: sum(one.criteria["specificity"].value for one in found.of(kind) if one.criteria is not None) / 4
        for kind in ("discovered", "labels", "random")
    }
    assert abs(means["discovered"] - means["labels"]) < 0.1
    assert means["random"] < 0.15


def test_random_groups_of_the_same_sizes_are_not_proven(found: Discovery) -> None:
    pairs = zip(found.of("random"), found.of("discovered"), strict=True)
    for random, mine in pairs:
        assert (random.examples, random.held_out) == (mine.examples, mine.held_out)
        assert not random.proven
    assert abs(found.agreement["random"].rand) < 0.1


def test_targets_and_references_are_of_those_that_propose(found: Discovery) -> None:
    assert int(found.judge.sum()) == 80
    for i, one in enumerate(found.of("discovered")):
        target, reference = found.target(i), found.reference(i)
        assert len(target) == one.examples
        assert not found.judge[torch.cat([target, reference])].any()
        assert not set(target.tolist()) & set(reference.tolist())


def test_labels_change_nothing_that_is_discovered_and_a_seed_repeats_it(found: Discovery) -> None:
    again = discover(MODEL, X, count=4, **QUICK)
    assert torch.equal(again.groups, found.groups)
    assert again.agreement == {}
    assert again.confusion is None
    assert again.overlap is None
    assert again.matches() == {}
    assert [one.examples for one in again.of("discovered")] == [one.examples for one in found.of("discovered")]


def test_without_structure_nothing_is_found() -> None:
    noise = torch.randn(96, 12, generator=torch.Generator().manual_seed(9))
    nothing = discover(nn.Linear(12, 4), noise, **QUICK | {"sites": [""]}, count=3)
    assert not nothing.structured
    assert nothing.found == ()
    assert len(nothing.of("discovered")) == 3


def test_latents_propose_too() -> None:
    found = discover(MODEL, X, by="codes", codes=codes().to_sparse(), labels=LABELS, **QUICK)
    assert sorted(one.name for one in found.of("discovered")) == [f"latent {i}" for i in range(4)]
    assert found.found == (0, 1, 2, 3)
    assert found.agreement["discovered"].rand == 1.0
    assert found.absent == {"untrained": "an untrained network has no dictionary"}


class Bare(nn.Module):
    """A map that does not know how to draw its first weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 12, generator=torch.Generator().manual_seed(1)))
        self.read = nn.Linear(4, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.read(x @ self.weight.T)


def test_what_cannot_be_measured_says_why() -> None:
    rare = torch.where(torch.arange(64) < 3, 1, 0)
    found = discover(Bare(), X[:64], labels=rare, count=2, **QUICK | {"sites": [""]})
    assert "parameters without reset_parameters" in found.absent["untrained"]
    assert not found.of("untrained")
    for one in found.of("labels"):
        assert one.criteria is None
        assert one.reason == f"{one.examples} examples to propose from; expected eight of it and eight others"
        assert not one.proven


def test_a_file_holds_everything(found: Discovery, tmp_path: Path) -> None:
    back = Discovery.unpack(read(write(found.pack(), tmp_path / "d"), "discovery"))
    for name in ("groups", "members", "kept", "judge", "confusion", "overlap"):
        assert torch.equal(getattr(back, name), getattr(found, name))
    for name in ("agreement", "classes", "stability", "null", "tried", "absent", "manifest", "found"):
        assert getattr(back, name) == getattr(found, name)
    for one, other in zip(back.concepts, found.concepts, strict=True):
        assert (one.kind, one.name, one.examples, one.score, one.proven) == (
            other.kind, other.name, other.examples, other.score, other.proven,
        )  # fmt: skip
        assert dict(one.criteria or {}) == dict(other.criteria or {})


@pytest.mark.parametrize(
    ("inputs", "options", "error", "message"),
    [
        (X[:20], {}, ValueError, "got 10 examples; expected at least 16, for two groups of 8"),
        (X, {"count": 1}, ValueError, "got count=1; expected numbers of groups of at least 2"),
        (X, {"sites": ["relu"]}, SelectionError, "got site='relu', which is no module"),
        (X, {"sites": []}, ValueError, r"got reduce='max' and sites=\[\]"),
        (X, {"by": "codes"}, ValueError, "got by='codes' without codes; expected"),
        (X, {"codes": codes()}, ValueError, "got by='clusters' with codes"),
        (X, {"by": "codes", "codes": codes()[:9]}, ValueError, "got codes of 9 examples; expected 160"),
        (X, {"labels": LABELS.float()}, TypeError, "got labels of torch.float32; expected integers"),
        (X, {"labels": LABELS[:9]}, ValueError, r"got labels \(9,\) of 4 classes; expected \(160,\)"),
        (X, {"labels": LABELS * 0}, ValueError, "of 1 classes; .* of two classes or more"),
        (torch.ones(40, 12), {}, ValueError, "units that are constant over 20 examples"),
        (X, {"reduce": "last"}, ValueError, r"got inputs \(160, 12\) of torch.float32 without an attention_mask"),
    ],
)
def test_mistakes_are_named(inputs: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        discover(MODEL, inputs, **QUICK | options)
