"""AUROC of 4,096 units for 100 concepts over 2,000 stimuli: against the 5 seconds asked for, and beside two peers.

scikit-learn's `roc_auc_score` is called a unit and concept, scipy's `rankdata` a table, with the same product of ranks
and labels. Responses are rectified, so that half of them are ties. One thread; scikit-learn is timed on a few units and
its time multiplied.
"""

import torch
from torch import Tensor

from benchmarks.figures import Figure, Skipped, cpu_seconds, main
from mnemotrace.localisation.auroc import auroc

UNITS, CONCEPTS, STIMULI = 4096, 100, 2000


def table(quick: bool) -> tuple[Tensor, Tensor]:
    """Draw rectified responses and the concept of each stimulus."""
    generator = torch.Generator().manual_seed(0)
    n, u, k = (200, 64, 10) if quick else (STIMULI, UNITS, CONCEPTS)
    concepts = torch.arange(n) % k
    return torch.randn(n, u, generator=generator).relu(), concepts[:, None] == torch.arange(k)


def by_scipy(values: Tensor, labels: Tensor) -> Tensor:
    """Rank with scipy, along stimuli, in one call."""
    from scipy.stats import rankdata

    ranks = torch.from_numpy(rankdata(values.numpy(), axis=0))
    ones = labels.sum(0).double()
    return (ranks.T @ labels.double() - ones * (ones + 1) / 2) / (ones * (len(labels) - ones))


def by_sklearn(values: Tensor, labels: Tensor) -> Tensor:
    """Ask scikit-learn for every unit and concept."""
    from sklearn.metrics import roc_auc_score

    wanted = [label.numpy() for label in labels.T]
    return torch.tensor([[roc_auc_score(label, unit) for label in wanted] for unit in values.T.numpy()])


def measure(quick: bool) -> list[Figure]:
    """C1: equal to the peers, and fast."""
    try:
        import scipy
        import sklearn
    except ImportError as error:
        raise Skipped(f"{error.name} is not installed; pip install 'mnemotrace[probes]'") from error
    values, labels = table(quick)
    few = values[:, :8].contiguous()
    timed = {
        "ours": lambda: auroc(values, labels),
        "scipy": lambda: by_scipy(values, labels),
        "sklearn": lambda: by_sklearn(few, labels),
    }
    spent = cpu_seconds(timed, 1 if quick else 3)
    whole = spent["sklearn"] * values.shape[1] / few.shape[1]
    apart = float((auroc(few, labels) - by_sklearn(few, labels)).abs().max())
    across = float((auroc(values, labels) - by_scipy(values, labels)).abs().max())
    size = f"{values.shape[1]} units, {labels.shape[1]} concepts, {len(values)} stimuli"
    return [
        Figure("C1 largest difference from roc_auc_score", apart, "<= 1e-6", f"scikit-learn {sklearn.__version__}"),
        Figure("C1 largest difference from rankdata", across, "<= 1e-6", f"scipy {scipy.__version__}"),
        Figure("C1 seconds", spent["ours"], "<= 5", size),
        Figure("rankdata and product / ours", spent["scipy"] / spent["ours"], "", f"{spent['scipy']:.2f} s"),
        Figure("roc_auc_score / ours", whole / spent["ours"], "", f"{whole:.0f} s, from {few.shape[1]} units"),
    ]


if __name__ == "__main__":
    main(measure, __doc__)
