"""AUROC is scikit-learn's, ties and all, for every unit and concept at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation import auroc as module
from mnemotrace.localisation.auroc import auroc, of_ranks, ranks


def _pairs(values: Tensor, labels: Tensor) -> Tensor:
    """The definition: the share of pairs in which the concept's stimulus is above, half of the ties counted."""
    found = torch.zeros(values.shape[1], labels.shape[1], dtype=torch.float64)
    for k, label in enumerate(labels.T):
        apart = values[label][:, None] - values[~label][None]
        found[:, k] = ((apart > 0).double() + 0.5 * (apart == 0).double()).mean((0, 1))
    return found


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 30), levels=st.integers(1, 5))
def test_it_is_the_share_of_pairs(seed: int, n: int, levels: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(levels, (n, 3), generator=generator).double() - 2
    labels = torch.rand(n, 4, generator=generator) < 0.5
    labels[0], labels[1] = True, False
    assert torch.allclose(auroc(values, labels), _pairs(values, labels), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_equals_scikit_learn(dtype: torch.dtype) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(300, 6, generator=generator).relu().to(dtype)
    labels = torch.randint(4, (300,), generator=generator)[:, None] == torch.arange(4)
    wanted = [[metrics.roc_auc_score(y.numpy(), x.double().numpy()) for y in labels.T] for x in values.T]
    assert torch.allclose(auroc(values, labels), torch.tensor(wanted, dtype=torch.float64), atol=1e-12)


def test_ranks_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = torch.randint(6, (50, 3), generator=torch.Generator().manual_seed(2)).float()
    wanted = torch.from_numpy(2 * stats.rankdata(values.numpy(), axis=0) - 51).T
    assert torch.equal(ranks(values).double(), wanted)


def test_sums_stay_exact_beyond_what_float32_counts() -> None:
    """The sum is 4499 * 4501, which is odd and above 2^24: no float32."""
    values = torch.randperm(9000, generator=torch.Generator().manual_seed(3)).double()[:, None]
    assert float(auroc(values, values[:, 0] >= 4501)) == 1.0


def test_strips_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(40, 7, generator=torch.Generator().manual_seed(4))
    labels = (torch.arange(40) % 3)[:, None] == torch.arange(3)
    whole = auroc(values, labels)
    monkeypatch.setattr(module, "_STRIP", 90)
    assert torch.equal(auroc(values, labels), whole)
    assert torch.equal(of_ranks(ranks(values), labels), whole)


@pytest.mark.parametrize(
    ("values", "labels", "error", "message"),
    [
        (torch.rand(4, 2), torch.tensor([0, 1, 0, 1]), TypeError, "boolean labels; compare integer labels"),
        (torch.arange(8).view(4, 2), torch.tensor([True, False, True, False]), TypeError, "got values of torch.int64"),
        (torch.rand(4, 2), torch.tensor([True, False, True]), ValueError, r"got values \(4, 2\) and labels \(3, 1\)"),
        (torch.rand(4, 0), torch.tensor([True, False, True, False]), ValueError, "at least one unit"),
        (torch.rand(4, 2), torch.ones(4, dtype=torch.bool), ValueError, "got concept 0 with 4 of 4 stimuli"),
        (torch.rand(4, 2), torch.zeros(4, dtype=torch.bool), ValueError, "got concept 0 with 0 of 4 stimuli"),
        (torch.tensor([[1.0], [float("nan")]]), torch.tensor([True, False]), NonFiniteError, "values"),
    ],
)
def test_mistakes_are_named(values: Tensor, labels: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        auroc(values, labels)
