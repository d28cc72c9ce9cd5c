"""Families stay whole, labels keep their shares, and random labels are dealt by family."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemotrace.localisation.probe_split import split_families


@settings(max_examples=10)
@given(seed=st.integers(0, 50), families=st.integers(9, 40), labels=st.integers(2, 3))
def test_no_family_is_on_two_sides_and_every_label_is_on_each(seed: int, families: int, labels: int) -> None:
    source = torch.Generator().manual_seed(seed)
    groups = torch.arange(families).repeat_interleave(3)[torch.randperm(3 * families, generator=source)]
    split = split_families(groups % labels, groups, test=0.25, generator=source)
    parts = [split.fit, split.choose, split.test]
    assert sorted(torch.cat(parts).tolist()) == list(range(3 * families))
    names = [set(groups[part].tolist()) for part in parts]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    assert all(len((groups[part] % labels).unique()) == labels for part in parts)
    dealt = split.shuffled(groups % labels, source)
    for rows in (torch.cat(parts[:2]), split.test):
        assert torch.equal(dealt[rows].sort().values, (groups[rows] % labels).sort().values)
    assert all(len(dealt[groups == family].unique()) == 1 for family in range(families))


def test_families_with_several_labels_are_kept_whole_too() -> None:
    groups, y = ["a", "b", "c", "d"] * 10, torch.arange(40) // 20
    split = split_families(y, groups, test=0.25, generator=torch.Generator().manual_seed(0))
    assert split.rows == {"fit": 20, "choose": 10, "test": 10}
    assert len({groups[int(row)] for row in split.test}) == 1
    dealt = split.shuffled(y, torch.Generator().manual_seed(1))
    assert not torch.equal(dealt, y) and int(dealt.sum()) == int(y.sum())


@pytest.mark.parametrize(
    ("y", "groups", "test", "message"),
    [
        (torch.zeros(9).long(), None, 0.25, r"got labels \[0\] and test=0.25; expected at least two labels"),
        (torch.arange(9) % 2, None, 1.0, "and test=1.0; expected at least two labels and a share between 0 and 1"),
        (torch.arange(9) % 2, [0, 1], 0.25, "got 2 groups for 9 rows; expected one a row"),
        (
            torch.tensor([0] * 8 + [1]),
            None,
            0.25,
            "got no row of label 1 among the .* to fit; .* at least three a label",
        ),
    ],
)
def test_mistakes_are_named(y: torch.Tensor, groups: list[int] | None, test: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_families(y, groups, test=test, generator=torch.Generator())
