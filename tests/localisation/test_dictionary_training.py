"""Training finds what was planted, folds its scale away, and is repeatable."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation.dictionary import Dictionary
from mnemotrace.localisation.dictionary_training import dictionary
from mnemotrace.localisation.dictionary_variants import TRAINED, prefixes_of
from mnemotrace.stats.activations import ActivationCache

FEATURES, WIDTH, ACTIVE = 12, 8, 2


def directions(seed: int = 77) -> torch.Tensor:
    rows = torch.randn(FEATURES, WIDTH, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)


def planted(n: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Strengths `(n, features)` and rows."""
    g = torch.Generator().manual_seed(seed)
    which = torch.rand(n, FEATURES, generator=g).topk(ACTIVE).indices
    strength = torch.zeros(n, FEATURES).scatter_(1, which, 0.5 + torch.rand(n, ACTIVE, generator=g))
    return strength, strength @ directions()


def found(variant: str = "topk", x: torch.Tensor | None = None, steps: int = 100, **more: object) -> Dictionary:
    rows = planted(2000)[1] if x is None else x
    return dictionary(rows, latents=24, k=ACTIVE, variant=variant, steps=steps, batch=128, learning_rate=3e-2, **more)  # type: ignore[arg-type]


def explained(one: Dictionary, x: torch.Tensor, y: torch.Tensor | None = None) -> float:
    y = x if y is None else y
    return 1 - float((y - one(x)).square().sum() / (y - y.mean(0)).square().sum())


@pytest.mark.parametrize("variant", TRAINED)
def test_planted_directions_are_found_and_not_without_training(variant: str) -> None:
    one, x = found(variant), planted(1000, seed=2)[1]
    alike = (directions() @ one.decoder.T).amax(1)
    naive = (directions() @ found(variant, steps=1).decoder.T).amax(1)
    assert float(naive.mean()) < 0.77 and float(alike.mean()) > 0.83
    assert explained(one, x) > 0.8
    assert one.encode(x).l0 == pytest.approx(ACTIVE, rel=0.15)
    assert one.report["explained"] == pytest.approx(explained(one, x), abs=0.05)
    curve = one.report["curve"]
    assert curve["unexplained"][-1] < curve["unexplained"][0] and curve["step"][-1] == 100
    assert sum(one.report["density"]["latents"]) == round(24 * (1 - one.report["never"]))


def test_the_scale_and_centre_of_activations_go_into_the_weights() -> None:
    x = planted(2000)[1]
    plain, moved = found(x=x), found(x=250 * x + 40)
    code, other = plain.encode(x[:200]), moved.encode(250 * x[:200] + 40)
    assert float((code.dense() - other.dense() / 250).abs().mean()) < 0.01 * float(code.values.mean())
    assert explained(moved, 250 * x + 40) == pytest.approx(explained(plain, x), abs=2e-3)
    jump = found("jump_relu", x=250 * x + 40)
    assert jump.encode(250 * x + 40).l0 == pytest.approx(ACTIVE, rel=0.15)
    assert jump.encode(x).l0 != pytest.approx(ACTIVE, rel=0.5)  # another scale is another input


def test_a_transcoder_gives_another_tensor_of_another_size() -> None:
    strength, x = planted(2000)
    y = 30 * strength[:, :FEATURES] @ torch.randn(FEATURES, 5, generator=torch.Generator().manual_seed(3)) - 7
    one = found(x=x, target=y)
    assert (one.d, one.d_out) == (WIDTH, 5) and explained(one, x, y) > 0.8
    assert explained(found(x=x, target=y[torch.randperm(2000, generator=torch.Generator().manual_seed(4))]), x, y) < 0.2


def test_a_seed_gives_the_same_bits_and_another_does_not() -> None:
    runs = [found(steps=5, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(runs[0].encoder, runs[1].encoder) and not torch.equal(runs[0].encoder, runs[2].encoder)
    assert runs[0].manifest["seed"] == 3


def test_a_cache_and_a_stream_train_as_a_tensor_does(tmp_path: Path) -> None:
    model, x = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 5)), planted(2000)[1]
    cache = ActivationCache.write(model, x.split(300), ["0", "2", "2.input"], path=tmp_path / "cache")
    one = dictionary(cache.point("0"), latents=24, k=2, steps=60, batch=256, learning_rate=1e-2)
    assert one.site == "0" and one.manifest["base"] == cache.manifest["base"] and one.report["explained"] > 0.5
    coded = dictionary(cache.point("2.input"), target=cache.point("2"), latents=24, k=2, steps=60, batch=256)
    assert (coded.d, coded.d_out, coded.manifest["target"]) == (WIDTH, 5, "2")
    from_list = dictionary(list(x.split(256)), latents=24, k=2, steps=60, learning_rate=1e-2)
    assert from_list.report["explained"] > 0.5


@dataclass
class Once:
    rows: torch.Tensor

    def __iter__(self) -> Iterator[torch.Tensor]:
        while len(self.rows):
            part, self.rows = self.rows[:100], self.rows[100:]
            yield part


def test_what_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    x = planted(300)[1]
    for bad in ({"k": 0}, {"k": 25}, {"variant": "relu"}, {"steps": 0}, {"alpha": -1.0}, {"batch": 0}):
        with pytest.raises(ValueError, match=r"expected one of topk, batch_topk, jump_relu, matryoshka, 0 < k"):
            dictionary(x, **({"latents": 24, "k": 2} | bad))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected sizes that rise and end in latents=24"):
        found("matryoshka", prefixes=(12, 6, 24))
    with pytest.raises(ValueError, match=r"activations that are all the same; expected some that differ"):
        found(x=torch.ones(50, WIDTH))
    with pytest.raises(ValueError, match=r"got activations \(5, 2, 3\); expected \(n, d\)"):
        found(x=torch.ones(5, 2, 3))
    with pytest.raises(NonFiniteError, match=r"in activations"):
        found(x=torch.full((50, WIDTH), torch.inf))
    with pytest.raises(ValueError, match=r"got no further batch; expected batches that can be read again"):
        dictionary(Once(x), latents=24, k=2, steps=9)
    for target in (x[:5], ActivationCache.write(nn.Identity(), [x], [""], path=tmp_path / "c").point("")):
        with pytest.raises(ValueError, match=r"expected two tensors of as many rows, or two points of one open cache"):
            found(x=x, target=target)


def test_prefixes_halve_and_hold_k() -> None:
    assert prefixes_of(256, 4) == (64, 128, 256) and prefixes_of(64, 20) == (32, 64)


def test_training_warns_of_nothing_and_reports_each_step() -> None:
    said: list[int] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found(steps=4, progress=lambda done, total, what: said.append(done))
    assert said == [1, 2, 3, 4]
