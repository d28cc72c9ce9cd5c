"""Planted cells are found, and only they: beside noise, shuffled labels, other modalities, an untrained table."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation.cell_scan import scan

CONCEPTS = torch.arange(400) % 5


def _planted(seed: int, units: int = 150, count: int = 15, strength: float = 4.0) -> tuple[Tensor, Tensor]:
    """Noise with units that answer to one concept; returns the table and the concept of each planted unit, or -1."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.full((units,), -1)
    true[:count] = torch.randint(5, (count,), generator=generator)
    values = torch.randn(len(CONCEPTS), units, generator=generator)
    return values + strength * (CONCEPTS[:, None] == true), true


@pytest.mark.parametrize("seed", range(3))
def test_planted_units_are_found_and_no_other(seed: int) -> None:
    values, true = _planted(seed)
    found = scan(values, CONCEPTS, shuffles=19, generator=torch.Generator().manual_seed(seed))
    assert {(cell.unit, cell.concept) for cell in found.cells()} == {(u, int(true[u])) for u in range(15)}
    assert all(cell.p == 1 / 20 for cell in found.cells())


def test_shuffled_labels_give_no_cell() -> None:
    values, _ = _planted(0)
    mixed = CONCEPTS[torch.randperm(400, generator=torch.Generator().manual_seed(9))]
    found = scan(values, mixed, shuffles=19)
    assert found.cells() == []
    assert found.counts()[""]["above shuffled"] <= 1
    assert 0.5 < float(found.sites[""].auroc.max()) < 0.8


def test_a_unit_that_changes_its_concept_with_the_view_is_no_cell() -> None:
    concepts, views = CONCEPTS.repeat(2), torch.arange(2).repeat_interleave(400)
    items = torch.arange(400).repeat(2)
    values, _ = _planted(1, units=20, count=0)
    values = values.repeat(2, 1)
    values[:, 0] += 6.0 * (concepts == 2)
    values[:, 1] += 6.0 * (concepts == torch.where(views == 0, 2, 3))
    values[:, 2] += 6.0 * ((concepts == 2) & (views == 0))
    found = scan(values, concepts, views=views, items=items, shuffles=19)
    assert [cell.unit for cell in found.cells()] == [0]
    assert found.strata == ("stimuli / 0", "stimuli / 1")
    assert float(found.sites[""].held[0].min()) > 0.99
    assert float(found.sites[""].held[2, 1]) < 0.7


def test_both_modalities_must_agree() -> None:
    image, _ = _planted(2, units=20, count=0)
    word, _ = _planted(3, units=20, count=0)
    few, word = CONCEPTS[:200], word[:200]
    for unit, (seen, heard) in enumerate([(1, 1), (1, 4), (1, None)]):
        image[:, unit] += 6.0 * (seen == CONCEPTS)
        word[:, unit] += 0.0 if heard is None else 6.0 * (heard == few)
    found = scan({"image": image, "word": word}, {"image": CONCEPTS, "word": few}, shuffles=19)
    (cell,) = found.cells()
    assert (cell.unit, cell.concept, cell.same) == (0, 1, True)
    assert set(cell.held) == {"image", "word"}
    assert found.sites[""].favourites[:2].tolist() == [[1, 1], [1, 4]]
    assert cell.top["image"] == tuple(image[:, 0].topk(8).indices.tolist())
    assert cell.top["word"] == tuple(word[:, 0].topk(8).indices.tolist())


def test_an_untrained_table_that_does_as_well_leaves_no_cell() -> None:
    values, _ = _planted(4)
    found = scan(values, CONCEPTS, untrained=values.flip(1), shuffles=19)
    counts = found.counts()[""]
    assert counts["selective"] == counts["untrained selective"] == 15
    assert found.cells() == []
    noise = torch.randn(400, 30, generator=torch.Generator().manual_seed(5))
    assert len(scan(values, CONCEPTS, untrained=noise, shuffles=19).cells()) == 15


def test_rotation_dissolves_cells_and_leaves_the_probe() -> None:
    values, _ = _planted(5, units=60, count=5, strength=4.0)
    one = scan(values, CONCEPTS, shuffles=19).sites[""]
    assert one.rotated is not None
    assert one.probe is not None
    assert int((one.score >= 0.95).sum()) == 5
    assert int((one.rotated >= 0.95).sum()) == 0
    assert float((one.probe[0] - one.probe[1]).abs()) < 1e-9
    assert float(one.probe[0]) > 0.6  # chance is 0.2


def test_partners_are_told_once_the_preferred_is_set_aside() -> None:
    concepts = torch.arange(800) % 40
    values = torch.randn(800, 6, generator=torch.Generator().manual_seed(0))
    values[:, 0] += 9.0 * (concepts == 3) + 5.0 * (concepts == 7)
    values[:, 1] += 6.0 * (concepts == 3)
    found = scan(values, concepts, shuffles=19, rotate=False)
    partners = {cell.unit: cell.partners for cell in found.cells()}
    assert partners == {0: ("7",), 1: ()}
    related = torch.zeros(40, 40, dtype=torch.bool)
    related[3, 7] = related[7, 3] = True
    assert found.association(related, permutations=99).shared[0] == (3, 7, 1)


def test_one_seed_one_result_and_the_manifest_says_it() -> None:
    values, _ = _planted(6, units=20)
    same = [scan(values, CONCEPTS, shuffles=19, generator=torch.Generator().manual_seed(s)) for s in (3, 3, 4)]
    first, again, other = (one.sites[""] for one in same)
    assert torch.equal(first.auroc, again.auroc)
    assert torch.equal(first.shuffled, again.shuffled)
    assert not torch.equal(first.auroc, other.auroc)
    assert same[0].manifest["seed"] == 3
    assert same[0].manifest["tested"] == {"stimuli": 200}


def _spoiled() -> Tensor:
    values = torch.rand(400, 3)
    values[7, 1] = torch.nan
    return values


@pytest.mark.parametrize(
    ("tables", "concepts", "options", "error", "message"),
    [
        (torch.rand(400, 3), CONCEPTS, {"shuffles": 5}, ValueError, "shuffles=5; expected .* at least 19 shuffles"),
        (torch.rand(400, 3), CONCEPTS, {"auroc": 1.5}, ValueError, "got auroc=1.5"),
        (torch.rand(399, 3), CONCEPTS, {}, ValueError, r"got responses \(399, 3\) in stimuli; expected \(400, 3\)"),
        (torch.rand(400, 0), CONCEPTS, {}, ValueError, r"got responses \(400, 0\)"),
        (CONCEPTS[:, None], CONCEPTS, {}, TypeError, "got responses of torch.int64 in stimuli"),
        (_spoiled(), CONCEPTS, {}, NonFiniteError, "responses in stimuli"),
        (torch.rand(400, 3), CONCEPTS, {"untrained": torch.rand(3, 3)}, ValueError, r"got responses \(3, 3\)"),
        ({"a": torch.rand(400, 3), "b": torch.rand(400, 3)}, CONCEPTS, {}, ValueError,
         r"got one table for the modalities \['a', 'b'\]"),
        ({"a": torch.rand(400, 3), "b": torch.rand(400, 3)}, {"a": CONCEPTS, "c": CONCEPTS}, {}, ValueError,
         r"got \['a', 'c'\] for the modalities \['a', 'b'\]"),
        ({"a": torch.rand(400, 3), "b": torch.rand(400, 4)}, {"a": CONCEPTS, "b": CONCEPTS}, {}, ValueError,
         "the same units in every modality"),
        ({"a": torch.rand(400, 3), "b": torch.rand(400, 3)}, {"a": CONCEPTS, "b": CONCEPTS % 4}, {}, ValueError,
         "got 5 concepts in a, 4 concepts in b; expected the same"),
    ],
)  # fmt: skip
def test_mistakes_are_named(
    tables: Any, concepts: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        scan(tables, concepts, **options)
