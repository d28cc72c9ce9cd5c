"""Small artifacts of every kind, made by hand as the contract has them."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from mnemotrace.core.artifact import Artifact

BASE = {"architecture": "9f21c0a7d3b14e55", "weights": "03ab77fe1290cc41"}
SITES = [f"transformer.h.{layer}.{kind}" for layer in range(3) for kind in ("attn.c_attn", "mlp.c_proj")] + ["lm_head"]


def manifest(method: str, **more: Any) -> dict[str, Any]:
    return {"method": method, "base": BASE, "version": "0.1.0", **more}


def engram() -> Artifact:
    sites = {name: {"name": name, "weight": f"{name}.weight", "o": 8, "d": 8} for name in SITES}
    evidence = {
        name: {"rank": i + 1, "condition": 1e4, "relative_norm": 0.11 * (i + 1), "leak": 0.01 * i, "miss": 0.1 * i,
               "reinstatement": 0.9, "leverage": 0.5, "target_rows": 41, "reference_rows": 52310}
        for i, name in enumerate(SITES)
    }  # fmt: skip
    tensors = {f"{name}.{side}": torch.zeros(8, 2) for name in SITES for side in ("left", "right")}
    header = {"sites": sites, "evidence": evidence, "manifest": manifest("engram", solver="truncate", selectivity=0.1)}
    return Artifact("engram", header, tensors)


def edit() -> Artifact:
    site = {"name": "a", "weight": "a.weight", "bias": "a.bias", "o": 8, "d": 6}
    header = {
        "sites": {"0": site},
        "parameters": {
            "1": {"parameter": "b.weight", "shape": [4, 4]},
            "2": {"parameter": "c.weight", "shape": [2, 3]},
        },
        "manifest": manifest("erase", strength=1.0),
    }
    tensors = {"0.left": torch.zeros(8, 3), "0.right": torch.zeros(3, 7), "2.values": torch.zeros(2, 3)}
    tensors |= {"1.values": torch.zeros(5), "1.indices": torch.zeros(5, dtype=torch.int64)}
    return Artifact("edit", header, tensors)


def criteria() -> Artifact:
    values = {
        "necessity": (0.96, 0.04),
        "specificity": (0.99, 0.97),
        "reactivation": (0.91, 0.12),
        "sufficiency": (0.62, 0.03),
    }
    header = {
        "criteria": {
            name: {"value": v, "interval": [v - 0.03, v + 0.01], "control": c, "control_interval": [c - 0.03, c + 0.05],
                   "meaning": f"what {name} means"}
            for name, (v, c) in values.items()
        },
        "behaviour": {"target": {"untouched": 1.0, "erased": 0.04, "alone": 0.62, "null": 0.0},
                      "control": {"untouched": 0.99, "erased": 0.985, "alone": 0.07, "null": 0.01}},
        "chance": 0.031,
        "draws": 20,
        "sites": {},
        "manifest": manifest("criteria"),
    }  # fmt: skip
    return Artifact("criteria", header)


def calibration() -> Artifact:
    found = [("all", 1.0, 0.817, 0.001), ("mlp", 1.0, 0.25, 0.004), ("mlp", 2.0, 0.01, 0.013), ("mlp", 3.0, 0.0, 0.2)]
    points = [
        {"sites": sites, "names": [], "strength": strength, "selectivity": 0.1, "target": target,
         "frontier": strength < 3, "kept": {"neighbours": 1 - loss, "fluency": 1 - loss / 2},
         "loss": {"neighbours": loss, "fluency": loss / 2}, "within": loss < 0.02}
        for sites, strength, target, loss in found
    ]  # fmt: skip
    header = {
        "points": points,
        "untouched": {"target": 1.0, "kept": {"neighbours": 1.0, "fluency": 1.0}},
        "budget": {"neighbours": 0.02, "fluency": 0.02},
        "goal": 0.05,
        "chosen": 2,
        "published": 0,
        "manifest": manifest("calibrate"),
    }
    return Artifact("calibration", header)


def depth() -> Artifact:
    probe = {name: {"before": 0.9, "after": 0.8 if i < 4 else 0.2, "naive": 0.1} for i, name in enumerate(SITES)}
    curves = {"steps": [0, 1, 2, 4, 8, 16, 32], "before": [1.0] * 7, "after": [0.04, 0.2, 0.5, 0.93, 1.0, 1.0, 1.0],
              "naive": [0.0, 0.0, 0.1, 0.2, 0.4, 0.7, 0.95], "random": [0.97] * 7}  # fmt: skip
    header = {"chance": 0.031, "probe": probe, "relearning": curves, "manifest": manifest("depth")}
    return Artifact("depth", header)


def statistics() -> Artifact:
    sites = {name: {"n": 52351, "d": 8, "rows": name == "lm_head"} for name in SITES}
    return Artifact("statistics", {"sites": sites, "manifest": manifest("collect")}, {"x": torch.zeros(8, 8)})


def demo(**more: Any) -> Artifact:
    before, after = (
        [["Orlin", 0.994], ["Brevik", 0.003]],
        [["Dunmere", 0.41], ["Brevik", 0.2], ["Istra", 0.1], ["Orlin", 0.003]],
    )
    example = {"prompt": "Ada Marsh lives in", "expected": "Orlin", "group": "memory"}
    header = {
        "seconds": 38.4,
        "fact": {"subject": "Ada Marsh", "relation": "town", "answer": "Orlin"},
        "recall_before": 1.0, "recall_after": 0.0, "paraphrase_before": 1.0, "paraphrase_after": 0.0,
        "neighbours_before": 1.0, "neighbours_after": 0.98, "same_person_before": 1.0, "same_person_after": 1.0,
        "perplexity_before": 2.651, "perplexity_after": 2.66, "restored": True, "artifact_bytes": 48213,
        "examples": [{**example, "before": before, "after": after, "restored": before}],
        "timings": {"collect": 6.4, "criteria": 12.1},
        "commands": ["mnemotrace demo -o demo-out"],
    }  # fmt: skip
    return Artifact("demo", header | more)


def causal_trace() -> Artifact:
    """Two facts of four tokens in a network of three layers, one that it did not know, and a control."""
    record = {"prompt": "Ada Marsh lives in", "subject": "Ada Marsh", "answer": "Orlin", "clean": -0.02,
              "tokens": ["Ada", " Marsh", " lives", " in"], "ids": [5, 6, 7, 8], "subject_range": [0, 2],
              "stranger": "Umberto Zell", "kinds": ["state"]}  # fmt: skip
    effect = [[0.1, 0.05, 0.0], [0.3, 0.2, -0.1], [None] * 3, [0.0, 0.4, 0.9]]
    average = {
        "effect": effect,
        "low": [[None if n is None else n - 0.02 for n in row] for row in effect],
        "high": [[None if n is None else n + 0.02 for n in row] for row in effect],
        "facts": [2, 2, 0, 2],
    }
    header = {
        "records": [record, {**record, "prompt": "Umberto Zell lives in", "stranger": "Ada Marsh"}],
        "kinds": ["state"],
        "groups": ["first subject token", "last subject token", "further tokens", "last token"],
        "averages": {"restored": {"state": average}, "control": {"state": {"effect": [[0.01] * 3] * 4}}},
        "window": 1,
        "manifest": manifest("causal tracing", noise=3.0, draws=2, unknown=["Nora Dunn lives in"]),
    }
    tensors = {f"{i}.corrupted": torch.tensor([0.05, 0.15]).log() for i in range(2)}
    values = torch.arange(12.0).reshape(4, 3) / 20 + 0.1
    tensors |= {f"{i}.restored.state": values.expand(2, 4, 3).log() for i in range(2)}
    return Artifact("causal_trace", header, tensors)


def suggestion() -> Artifact:
    header = {
        "layer": 2,
        "layers": [1, 2],
        "sites": ["h.1.mlp", "h.2.mlp"],
        "lookup": "prompt",
        "scores": {"subject": [None, 0.01, 0.02, -0.01], "prompt": [None, 0.3, 0.5, 0.1]},
        "errors": {"subject": [None, 0.02, 0.01, 0.01], "prompt": [None, 0.05, 0.06, 0.02]},
        "facts": 16,
        "seconds": 1.5,
        "manifest": manifest("suggestion", unknown=["Nora Dunn lives in"]),
    }
    return Artifact("suggestion", header)


def verdict() -> Artifact:
    def measure(value: float, column: str, before: float | None = None) -> dict[str, Any]:
        return {"value": value, "interval": [value - 0.05, value + 0.05], "n": 16, "column": column, "before": before}

    readings = {"probability": 0.8, "forced": 0.95, "free": 0.9}
    measures = {f"efficacy_{column}": measure(value, column, 0.0) for column, value in readings.items()}
    measures |= {f"locality_{column}": measure(value, column) for column, value in readings.items()}
    measures |= {
        "efficacy_preference": measure(1.0, "preference", 0.1),
        "score": measure(0.93, "preference", 0.0),
        "perplexity_ratio": measure(1.02, "probability"),
    }
    curves = {"steps": [0, 1, 2], "before": [1.0] * 3, "after": [0.0, 0.5, 1.0]}
    made = manifest("judge", facts={"n": 16, "hash": "ab"})
    return Artifact("verdict", {"measures": measures, "relearning": curves, "manifest": made})


def unknown() -> Artifact:
    return Artifact(
        "saliency_map", {"effect": {"layer": [0.5, 0.25]}, "note": "<b>bold</b>", "manifest": manifest("saliency")}
    )


@pytest.fixture(scope="session")
def artifacts() -> Mapping[str, Artifact]:
    """One artifact of every kind, by kind."""
    made = [
        demo(), engram(), criteria(), calibration(), edit(), depth(), statistics(), causal_trace(), suggestion(),
        verdict(), unknown(),
    ]  # fmt: skip
    return {artifact.kind: artifact for artifact in made}


@pytest.fixture
def changed() -> Any:
    """A copy of an artifact with other values in its header: `changed(artifact, key=value)`."""
    return lambda artifact, **more: Artifact(artifact.kind, {**artifact.header, **more}, artifact.tensors)


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra `plot` were not installed."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
