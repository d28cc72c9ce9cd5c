"""A network is run beside its untrained twin; what is found is the scan of its responses."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemotrace.core.errors import SelectionError
from mnemotrace.localisation.cells import Stimuli, cells, scan

CONCEPTS = torch.arange(200) % 4


def _net() -> nn.Sequential:
    """The first four units of the second layer copy a concept's input; twelve others mix."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, last = nn.Linear(4, 16), nn.Linear(16, 4)
    with torch.no_grad():
        first.weight.fill_(1.0)[:4] = torch.eye(4)
        first.bias.zero_()
    return nn.Sequential(first, nn.ReLU(), last)


def _stimuli(seed: int = 0) -> Stimuli:
    x = torch.rand(200, 4, generator=torch.Generator().manual_seed(seed)) + 0.9 * nn.functional.one_hot(CONCEPTS)
    return Stimuli(x.split(64), CONCEPTS, names=("a", "b", "c", "d"))


def test_the_copying_units_are_the_cells() -> None:
    model, stimuli = _net().train(), _stimuli()
    found = cells(model, stimuli, sites=["1"], untrained=False, shuffles=19)
    assert sorted((cell.unit, cell.name) for cell in found.cells()) == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    table = torch.cat([nn.Sequential(*list(model)[:2])(x) for x in stimuli.batches]).detach()
    again = scan(table, CONCEPTS, names=stimuli.names, shuffles=19).sites[""]
    for name in ("auroc", "beside", "deviations", "shuffled", "rotated", "top"):
        assert torch.equal(getattr(found.sites["1"], name), getattr(again, name))
    assert model.training
    assert found.manifest["untrained"] is None


def test_the_twin_is_drawn_or_given() -> None:
    model = _net()
    drawn = cells(model, _stimuli(), sites=["1", ""], shuffles=19, rotate=False)
    assert list(drawn.sites) == ["1", ""]
    assert drawn.sites["1"].untrained is not None
    assert drawn.manifest["untrained"] != drawn.manifest["base"]
    given = cells(model, _stimuli(), sites=["1"], untrained=model, shuffles=19, rotate=False)
    assert given.sites["1"].untrained is not None
    assert torch.equal(given.sites["1"].untrained, given.sites["1"].score)
    assert given.cells() == []  # no unit is better than the best of the same network


class _Two(nn.Module):
    """Pictures and words into one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.word, self.joint = nn.Linear(4, 4, bias=False), nn.Embedding(8, 4), nn.ReLU()
        with torch.no_grad():
            self.image.weight.copy_(torch.eye(4))
            self.word.weight.copy_(torch.eye(4).repeat(2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.joint(self.image(x))

    def read(self, tokens: Tensor) -> Tensor:
        return self.joint(self.word(tokens))


def test_modalities_enter_by_their_own_doors() -> None:
    tokens = torch.arange(48) % 8
    words = Stimuli(tokens.split(10), tokens % 4, names=("a", "b", "c", "d"), run=lambda m, x: m.read(x))
    seen: list[tuple[int, int | None, str]] = []

    def told(done: int, total: int | None, what: str) -> None:
        seen.append((done, total, what))

    found = cells(
        _Two(),
        {"image": _stimuli(), "word": words},
        sites=["joint"],
        shuffles=19,
        untrained=False,
        progress=told,
    )
    assert [(cell.unit, cell.concept, cell.same) for cell in sorted(found.cells(), key=lambda c: c.unit)] == [
        (unit, unit, True) for unit in range(4)
    ]
    assert found.modalities == ("image", "word")
    assert seen[-1] == (1, 1, "sites")


class _Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (_net(), {"sites": ["9"]}, SelectionError, "got site='9', which is no module"),
        (_net(), {"sites": []}, ValueError, "at least one name of a module"),
        (_net(), {"sites": ["1"], "reduce": "sum"}, ValueError, "got reduce='sum'"),
        (_net(), {"sites": ["1"], "shuffles": 3}, ValueError, "shuffles=3"),
        (_Own(), {"sites": [""]}, ValueError, "give it as untrained="),
    ],
)
def test_mistakes_are_named(model: nn.Module, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cells(model, _stimuli(), **options)


def test_stimuli_and_labels_must_be_as_many() -> None:
    short = Stimuli(_stimuli().batches[:2], CONCEPTS)
    with pytest.raises(ValueError, match=r"got responses \(128, 16\) in stimuli; expected \(200, 16\)"):
        cells(_net(), short, sites=["1"], shuffles=19, untrained=False)
