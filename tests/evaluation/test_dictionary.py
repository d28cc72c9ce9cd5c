"""A perfect dictionary costs nothing, a bad one is seen, and every way is what one gets by doing it by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemotrace.adapters.examples import Batch
from mnemotrace.core.artifact import read, write
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.evaluation.dictionary import WAYS, DictionaryEvidence, class_loss, dictionary_evidence
from mnemotrace.localisation.dictionary import Dictionary
from mnemotrace.localisation.dictionary_metrics import explained_variance


def _net() -> nn.Sequential:
    generator = torch.Generator().manual_seed(1)
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.7, generator=generator)
    return net.eval()


NET, X = _net(), torch.randn(80, 8, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    ROWS, LABELS = NET[:2](X), NET(X).argmax(1)
BATCHES = list(zip(X.split(30), LABELS.split(30), strict=True))


def _axes(**more: Any) -> Dictionary:
    """Every axis is a latent: what comes out of a ReLU is reconstructed exactly."""
    values: dict[str, Any] = {"encoder": torch.eye(6), "encoder_bias": torch.zeros(6), "decoder": torch.eye(6)}
    values |= {"bias": torch.zeros(6), "output_bias": torch.zeros(6), "variant": "relu", "k": None}
    return Dictionary(**(values | {"threshold": torch.zeros(()), "site": "1"} | more))


def test_a_perfect_dictionary_costs_nothing() -> None:
    found = dictionary_evidence(NET, _axes(), BATCHES, loss=class_loss)
    assert torch.equal(found.losses[:, 0], found.losses[:, 1])
    assert found.recovered() == (1, (1, 1))
    assert found.recovered(over="mean")[0] == 1
    assert found.explained["dictionary"] == pytest.approx(1, abs=1e-12)
    assert found.explained["random dictionary"] < 0.9
    assert found.recovered(way="random")[0] < 0.95
    assert found.recovered(way="zero")[0] == 0
    assert found.l0 == pytest.approx(float((ROWS > 0).sum(1).double().mean()))
    assert torch.allclose(found.density, (ROWS > 0).float().mean(0))


def test_every_way_is_what_one_gets_by_hand() -> None:
    made = _axes(variant="topk", k=1, threshold=None)
    found = dictionary_evidence(NET, made, BATCHES, loss=class_loss)

    def loss(rows: Tensor) -> Tensor:
        with torch.no_grad():
            return nn.functional.cross_entropy(NET[2](rows), LABELS, reduction="none")

    by_hand = {
        "clean": ROWS,
        "spliced": made(ROWS),
        "zero": torch.zeros_like(ROWS),
        "mean": ROWS.mean(0).expand_as(ROWS),
    }
    for way, rows in by_hand.items():
        assert torch.allclose(found.losses[:, WAYS.index(way)], loss(rows), atol=1e-5), way
    assert found.explained["dictionary"] == pytest.approx(explained_variance(ROWS, made(ROWS)), abs=1e-9)
    ce = found.loss
    share, (low, high) = found.recovered()
    assert share == pytest.approx((ce["zero"] - ce["spliced"]) / (ce["zero"] - ce["clean"]))
    assert low < share < high
    assert found.dead == float((found.density == 0).double().mean())
    assert found.dense == float((found.density > 0.1).double().mean())


def test_tokens_outside_the_attention_mask_count_nothing(tiny_gpt2: Any, tokens: Tensor) -> None:
    model = tiny_gpt2()
    attention = torch.ones_like(tokens)
    attention[1:, 7:] = 0
    batch = Batch(tokens, attention, attention.bool(), attention.bool())
    made = _axes(
        encoder=torch.eye(32),
        encoder_bias=torch.zeros(32),
        decoder=torch.eye(32),
        bias=torch.zeros(32),
        output_bias=torch.zeros(32),
        variant="topk",
        k=32,
        threshold=None,
        site="transformer.h.0",
    )
    found = dictionary_evidence(model, made, [batch])
    assert found.manifest["positions"] == int(attention.sum())
    assert found.losses.shape == (4, 5)
    assert not torch.equal(found.losses[:, 0], found.losses[:, 1])  # half of each row is negative and lost
    only = dictionary_evidence(
        model, made, [batch], mask=lambda b: torch.zeros_like(b.rows).index_fill(1, torch.tensor([0]), True)
    )
    assert only.manifest["positions"] == 4


def test_same_seed_same_evidence_and_a_file_holds_it(tmp_path: Path) -> None:
    made = _axes(variant="topk", k=2, threshold=None)
    first, second = (dictionary_evidence(NET, made, BATCHES, loss=class_loss) for _ in range(2))
    other = dictionary_evidence(NET, made, BATCHES, loss=class_loss, generator=torch.Generator().manual_seed(9))
    assert torch.equal(first.losses, second.losses)
    assert not torch.equal(first.losses[:, 4], other.losses[:, 4])
    back = DictionaryEvidence.unpack(read(write(first.pack(), tmp_path / "e"), "dictionary_evidence"))
    for name in ("losses", "density"):
        assert torch.equal(getattr(back, name), getattr(first, name))
    for name in ("l0", "explained", "site", "manifest"):
        assert getattr(back, name) == getattr(first, name)


def test_a_network_that_does_not_need_the_site_is_said() -> None:
    flat = _net()
    with torch.no_grad():
        flat.get_parameter("2.weight").zero_()
    found = dictionary_evidence(flat, _axes(), BATCHES, loss=class_loss)
    with pytest.raises(ValueError, match="the network does not need this site on these data"):
        found.recovered()
    assert found.pack().header["recovered"] == {"zero": None, "mean": None}


@pytest.mark.parametrize(
    ("batches", "more", "error", "message"),
    [
        ([], {}, ValueError, "got no batch; expected at least one"),
        ([(X[:1].expand(9, 8), LABELS[:9])], {}, ValueError, "got 9 activations without variance"),
        ([(X * torch.nan, LABELS)], {}, NonFiniteError, "activations"),
        (BATCHES, {"site": "2"}, ValueError, "got activations"),
        (BATCHES, {"mask": lambda batch: torch.ones(len(batch[0]))}, TypeError, "got a mask of torch.float32"),
        (BATCHES, {"mask": lambda batch: torch.zeros(len(batch[0])).bool()}, ValueError, "got no position that counts"),
    ],
)
def test_mistakes_are_named(batches: Any, more: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dictionary_evidence(NET, _axes(), batches, loss=class_loss, **more)


def test_unknown_ways_are_named() -> None:
    found = dictionary_evidence(NET, _axes(), BATCHES, loss=class_loss)
    with pytest.raises(ValueError, match="got way='none' over 'zero'; expected one of clean"):
        found.recovered(way="none")
