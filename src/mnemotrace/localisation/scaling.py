"""How strongly to act at each site, as plain functions from an engram to factors by site name.

`engram.scaled(product(count_ratio(e), relative_norm(e)))`. Engrams here are sums of outer products, so the factor
`n / N` of the published implementation, which averages, is already inside: its `count_ratio(p)` is ours.
"""

from collections.abc import Mapping

from mnemotrace.core.trace import Engram

Factors = Mapping[str, float]


def uniform(engram: Engram, strength: float = 1.0) -> Factors:
    """Act equally everywhere."""
    return dict.fromkeys(engram, strength)


def count_ratio(engram: Engram, power: float = 1.0) -> Factors:
    """Weigh by the target's share of rows, `(n / N) ** (power - 1)`; 1 is the published setting and changes nothing."""
    shares = {
        name: values["target_rows"] / (values["target_rows"] + values["reference_rows"])
        for name, values in _evidence(engram).items()
    }
    return {name: share ** (power - 1) for name, share in shares.items()}


def relative_norm(engram: Engram, power: float = 1.0) -> Factors:
    """Weigh by how large the engram is in its weight: `(relative_norm / largest) ** power`."""
    norms = {name: values["relative_norm"] for name, values in _evidence(engram).items()}
    largest = max(norms.values())
    return {name: (norm / largest) ** power if largest else 0.0 for name, norm in norms.items()}


def product(*factors: Factors) -> Factors:
    """Multiply factors site by site."""
    combined = dict(factors[0])
    for other in factors[1:]:
        combined = {name: value * other[name] for name, value in combined.items()}
    return combined


def _evidence(engram: Engram) -> Mapping[str, Mapping[str, float]]:
    missing = [name for name in engram if name not in engram.evidence]
    if missing:
        raise ValueError(
            f"got an engram without measurements at {missing[:3]}; expected one from mt.engram; scale before adding "
            "or cutting"
        )
    return engram.evidence
