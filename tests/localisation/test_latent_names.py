"""Names of planted latents are found, scored on rows that did not choose them, and not found in shuffled labels."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation.code import Code
from mnemotrace.localisation.latent_names import LatentNames, name_latents


def _planted(n: int = 300, m: int = 12) -> tuple[Tensor, Tensor]:
    """Latents 2 and 5 tell concepts 0 and 1; 9 is never on; the others are noise."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(n, m, generator=generator).clamp_min(0)
    labels = torch.randint(3, (n,), generator=generator)
    codes[:, 2], codes[:, 5], codes[:, 9] = (labels == 0) * 1.0, (labels == 1) * (2 + codes[:, 5]), 0
    return codes, labels


CODES, LABELS = _planted()


def test_planted_latents_get_their_names() -> None:
    found = name_latents(CODES, LABELS, names=("Ada", "Umberto", "Ines"))
    assert found.concept[[2, 5, 9]].tolist() == [0, 1, -1]
    assert found.score[[2, 5]].tolist() == [1, 1]
    assert bool(found.score[9].isnan())
    assert found.best[:2].tolist() == [2, 5]
    assert found.best_score[:2].tolist() == [1, 1]
    assert found.shuffled[0] < 0.7
    assert [row[1:] for row in found.table(2)] == [("Ada", 1.0), ("Umberto", 1.0)]
    assert len(found.table()) == 11


def test_codes_dense_rows_and_sets_of_labels_are_named_alike() -> None:
    sets = LABELS[:, None] == torch.arange(3)
    for other in (name_latents(Code.of(CODES), LABELS), name_latents(CODES, sets)):
        assert torch.equal(other.concept, name_latents(CODES, LABELS).concept)
        assert other.names == ("0", "1", "2")


def test_held_out_rows_choose_nothing() -> None:
    held = torch.arange(len(CODES)) >= 150
    spoiled = CODES.clone()
    spoiled[held, 7] = 9.0 * (LABELS[held] == 0)
    found = name_latents(spoiled, LABELS, held_out=held)
    assert int(found.best[0]) == 2
    moved = CODES.clone()
    moved[held] = moved[held][:, torch.randperm(12, generator=torch.Generator().manual_seed(1))]
    assert float(name_latents(moved, LABELS, held_out=held).best_score[0]) < 0.7  # chosen, and not confirmed


def test_same_seed_same_names() -> None:
    first, second = (name_latents(CODES, LABELS, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    for name in ("concept", "best", "best_score"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert first.shuffled == second.shuffled


BAD = CODES.clone()
BAD[0, 0] = float("inf")


@pytest.mark.parametrize(
    ("codes", "labels", "more", "error", "message"),
    [
        (
            CODES,
            LABELS.float(),
            {},
            TypeError,
            "got labels of torch.float32, shape .300,., for 300 rows; expected int64",
        ),
        (CODES, LABELS[:9], {}, TypeError, "shape .9,., for 300 rows"),
        (CODES, LABELS - 1, {}, TypeError, "from 0, or bool"),
        (CODES, LABELS, {"names": ("a",)}, ValueError, "got 1 names for 3 concepts"),
        (CODES, LABELS * 2, {}, ValueError, "got concept '1' in 0 of .* rows of the half that chooses; expected"),
        (CODES, LABELS, {"held_out": LABELS == 0}, ValueError, "got concept '0' in 0 of"),
        (BAD, LABELS, {}, NonFiniteError, "in values"),
    ],
)
def test_mistakes_are_named(codes: Tensor, labels: Tensor, more: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        name_latents(codes, labels, **more)


def test_a_table_is_best_first() -> None:
    rows = LatentNames(
        torch.tensor([0, 1, -1]),
        torch.tensor([0.6, 0.9, torch.nan]),
        torch.tensor([0, 1]),
        torch.rand(2),
        (0.5, 0.5),
        ("a", "b"),
    ).table()
    assert [(latent, name) for latent, name, _ in rows] == [(1, "b"), (0, "a")]
