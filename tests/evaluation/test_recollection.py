"""Evidence of recollection on networks whose answer is known: each control says where the picture comes from."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

from mnemotrace.core.errors import NonFiniteError, SourceIgnored
from mnemotrace.evaluation.recalling import OTHER, SAME, activations, donors, without_trace
from mnemotrace.evaluation.recollection import RecollectionEvidence, examine
from mnemotrace.retrieval.rules import Rules

CLASSES, EACH, SIDE = 3, 6, 16
LABELS = torch.arange(CLASSES * EACH) % CLASSES


def _images(seed: int = 0, each: int = EACH) -> torch.Tensor:
    """Strokes at places of their own, over a pattern of their class."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.rand(CLASSES, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(9)).round()
    own = (torch.rand(CLASSES * each, 1, SIDE, SIDE, generator=generator) < 0.2).float()
    return 0.3 * shared[torch.arange(CLASSES * each) % CLASSES] + own


def _net(*, pools: bool = True) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pool = [nn.MaxPool2d(2), nn.MaxPool2d(2)] if pools else [nn.AvgPool2d(2), nn.AvgPool2d(2)]
        first, second = nn.Conv2d(1, 12, 3, padding=1), nn.Conv2d(12, 16, 3, padding=1)
        parts = [first, nn.ReLU(), pool[0], second, nn.ReLU(), pool[1], nn.Flatten(), nn.Linear(16 * 16, CLASSES)]
        return nn.Sequential(*parts).eval()


@pytest.fixture(scope="module")
def evidence() -> Iterator[RecollectionEvidence]:
    learn = (_images(1, 40), torch.arange(CLASSES * 40) % CLASSES)
    with pytest.warns(SourceIgnored, match="source ignored: the recall correlates 0.99"):
        yield examine(
            _net(), _images(), LABELS, learn=learn, sites=["2"], shown=3, batch=10, generator=_seed(), units=LABELS
        )


def _seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_published_recall_is_identified_whatever_the_source(evidence: RecollectionEvidence) -> None:
    own = evidence.rows["own"].cued
    assert own.identified.value == 1
    for name in ("wrong source", "random source", "zero source"):
        assert evidence.rows[name].cued.correlation.own == pytest.approx(own.correlation.own, abs=1e-3)
    assert evidence.source_ignored
    assert evidence.sensitivity["zero"] > 0.999


def test_the_picture_is_that_of_whoever_gave_the_trace(evidence: RecollectionEvidence) -> None:
    for name in (OTHER, SAME):
        row = evidence.rows[name]
        assert row.donor is not None
        assert row.donor.identified.value == 1
        assert row.cued.identified.value == 0
    assert evidence.rows["own"].donor is None


def test_without_a_trace_one_of_a_class_is_like_another(evidence: RecollectionEvidence) -> None:
    free = evidence.rows["no trace"].cued
    assert free.identified.value <= 3 * free.chance
    assert free.correlation.own - free.correlation.same < 0.05


def test_the_ceiling_of_a_class_is_its_prototype_and_of_a_layer_more(evidence: RecollectionEvidence) -> None:
    code, layer = evidence.rows["ceiling: class"].cued, evidence.rows["ceiling: 2"].cued
    assert code.correlation.own - code.correlation.same < 0.1
    assert layer.correlation.own > code.correlation.own + 0.05
    assert layer.identified.value == 1
    assert evidence.rows["ceiling: class"].note == "rank 2 of 3, ridge 0.001, 120 images"


def test_bits_are_those_of_the_switches(evidence: RecollectionEvidence) -> None:
    assert evidence.bits["total"] == pytest.approx(2 * (12 * 64 + 16 * 16))  # four cells a window


def test_pictures_of_each_row_are_kept(evidence: RecollectionEvidence) -> None:
    assert set(evidence.rows) < set(evidence.images)
    assert {tuple(images.shape) for images in evidence.images.values()} == {(3, 1, SIDE, SIDE)}
    assert torch.equal(evidence.images["original"], _images()[:3])


def test_the_table_has_a_line_a_row_and_a_second_one_for_donors(evidence: RecollectionEvidence) -> None:
    names = [line["name"] for line in evidence.table()]
    assert len(names) == len(evidence.rows) + 2
    assert f"{SAME}, with the donor" in names
    assert all(math.isfinite(line["correlation, own"]) for line in evidence.table())


def test_evidence_survives_a_file(evidence: RecollectionEvidence) -> None:
    again = RecollectionEvidence.unpack(evidence.pack())
    assert again.rows == evidence.rows
    assert dict(again.manifest) == dict(evidence.manifest)
    assert list(again.images) == list(evidence.images)
    assert all(torch.equal(again.images[name], evidence.images[name]) for name in evidence.images)


def test_the_network_and_its_batches_leave_no_mark() -> None:
    net = _net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    runs = [examine(net, _images(), LABELS, rules=Rules.image(), batch=b, generator=_seed()) for b in (5, 100)]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    for name, row in runs[0].rows.items():
        assert row.cued.correlation.own == pytest.approx(runs[1].rows[name].cued.correlation.own, abs=1e-5)


def test_where_the_source_matters_nothing_warns() -> None:
    found = examine(_net(), _images(), LABELS, rules=Rules.gradient(), generator=_seed())
    assert not found.source_ignored
    assert found.rows["zero source"].cued.correlation.own == 0
    assert found.sensitivity["wrong"] < 0.9


def test_without_pools_and_gates_a_donor_changes_nothing() -> None:
    rules = Rules(normalise="std")
    found = examine(_net(pools=False), _images(), LABELS, rules=rules, units=LABELS, generator=_seed())
    row = found.rows[OTHER]
    assert row.cued.correlation.own == pytest.approx(found.rows["own"].cued.correlation.own, abs=1e-5)
    assert found.bits["total"] == 0


def test_an_untrained_network_may_be_given() -> None:
    net = _net()
    found = examine(net, _images(), LABELS, rules=Rules.guided(), untrained=net, generator=_seed())
    assert found.rows["untrained"] == replace(found.rows["own"])
    assert found.manifest["untrained"] == "given"


def test_donors_are_others_of_the_right_class(generator: torch.Generator) -> None:
    other, same = donors(LABELS, generator=generator)
    assert bool((LABELS[other] != LABELS).all())
    assert bool((LABELS[same] == LABELS).all())
    assert bool((same != torch.arange(len(LABELS))).all())


def test_rules_without_a_trace_need_none() -> None:
    for rules in (Rules.headline(), Rules.image(), Rules.guided(), Rules.gradient(), Rules.deconvnet()):
        free = without_trace(rules)
        assert not free.needs("switch")
        assert not free.needs("gate")
        assert (free.normalise, free.clamp) == (rules.normalise, rules.clamp)


def test_mistakes_are_named(generator: torch.Generator) -> None:
    net, images = _net(), _images()
    with pytest.raises(ValueError, match=r"images of shape \(16, 16\), labels of shape \(18,\) and batch=64; expected"):
        examine(net, images[0, 0], LABELS, generator=generator)
    with pytest.raises(ValueError, match=r"labels of shape \(17,\).*expected \(b, c, h, w\), one label an image"):
        examine(net, images, LABELS[1:], generator=generator)
    with pytest.raises(ValueError, match=r"units of shape \(18,\) up to 3; expected one an image, from 0 to 2"):
        examine(net, images, LABELS, units=LABELS + 1, generator=generator)
    with pytest.raises(ValueError, match="18 labels of 1 classes, some alone; expected at least two classes"):
        examine(net, images, 0 * LABELS, generator=generator)
    with pytest.raises(NonFiniteError, match="in the images"):
        examine(net, images / 0, LABELS, generator=generator)
    with pytest.raises(TypeError, match=r"got \(18, 16, 4, 4\) from the network; expected scores \(b, k\)"):
        examine(net[:6], images, LABELS, generator=generator)
    with pytest.raises(TypeError, match="got tuple from the network"):
        examine(_Two(), images, LABELS, generator=generator)


class _Two(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def test_a_site_must_exist_and_run_once() -> None:
    net, images = _net(), _images()
    assert torch.equal(activations(net, images, "5", batch=7), net[:6](images).detach())
    with pytest.raises(ValueError, match="site 'fc'; expected the name of a module of the network: 0, 1, 2"):
        activations(net, images, "fc")
    twice = nn.Sequential(net[0], relu := nn.ReLU(), nn.Conv2d(12, 12, 1), relu).eval()
    with pytest.raises(ValueError, match="got 36 outputs of 1 for 18 images; expected one each"):
        activations(twice, images, "1")
