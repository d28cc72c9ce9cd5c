"""Quality of grafts: calibration against hand-made numbers and scikit-learn, agreement, overlap, intervals."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mnemotrace as mt
from mnemotrace.adapters.examples import Example, batches
from mnemotrace.adapters.scores import recall
from mnemotrace.core.edit import Sparse
from mnemotrace.core.mask import Mask
from mnemotrace.evaluation.grafts import (
    Answers,
    agreement,
    answers_of,
    expected_calibration_error,
    overlap_matrix,
    quality,
)


def answers(given: list, confidence: list[float], right: list[bool]) -> Answers:
    return Answers(given, torch.tensor(confidence), torch.tensor(right))


def test_calibration_error_by_hand() -> None:
    """Two bins: (0, .5] holds .2 and .4, one right, gap .2 over half; (.5, 1] holds .9 and .7, both right, gap .2."""
    found = expected_calibration_error(
        torch.tensor([0.2, 0.4, 0.9, 0.7]), torch.tensor([False, True, True, True]), bins=2
    )
    assert found == pytest.approx(0.5 * abs(0.3 - 0.5) + 0.5 * abs(0.8 - 1.0))


@pytest.mark.parametrize(("confidence", "bins"), [(0.0, 1), (1.0, 15), (1 / 3, 3)])
def test_the_ends_of_the_scale_have_a_bin(confidence: float, bins: int) -> None:
    for right in (False, True):
        found = expected_calibration_error(torch.tensor([confidence]), torch.tensor([right]), bins=bins)
        assert found == pytest.approx(abs(confidence - right))


@given(st.integers(0, 2**31), st.integers(1, 20))
def test_calibration_error_is_that_of_scikit_learn(seed: int, bins: int) -> None:
    """Oracle: the curve of scikit-learn, weighted by how many fall into each bin."""
    calibration = pytest.importorskip("sklearn.calibration")
    generator = torch.Generator().manual_seed(seed)
    confidence = torch.rand(200, generator=generator, dtype=torch.float64)
    right = torch.rand(200, generator=generator) < 0.5
    true, predicted = calibration.calibration_curve(right.numpy(), confidence.numpy(), n_bins=bins)
    counts = torch.histc(confidence, bins, 0, 1)
    weighted = (torch.tensor(true - predicted).abs() * counts[counts > 0]).sum() / 200
    assert expected_calibration_error(confidence, right, bins=bins) == pytest.approx(float(weighted), abs=1e-12)


def test_a_calibrated_guesser_has_little_error_and_a_boaster_much(generator: torch.Generator) -> None:
    confidence = torch.rand(20_000, generator=generator)
    right = torch.rand(20_000, generator=generator) < confidence
    assert expected_calibration_error(confidence, right) < 0.02
    assert expected_calibration_error(torch.ones(20_000), right) == pytest.approx(0.5, abs=0.02)


def test_agreement_counts_equal_answers_right_or_wrong() -> None:
    first = answers(["a", "b", "c", "d"], [1, 1, 1, 1], [True, False, True, False])
    second = answers(["a", "b", "x", "y"], [1, 1, 1, 1], [True, False, False, True])
    assert agreement(first, second) == 0.5
    assert agreement(first, first) == 1
    with pytest.raises(ValueError, match="got 4 and 0 answers; expected equally many"):
        agreement(first, answers([], [], []))


def test_overlap_matrix_is_jaccard() -> None:
    masks = [Mask({"w": Sparse("w", (10,), torch.tensor(i), torch.ones(len(i)))}, 10) for i in ([0, 1, 2], [2, 3], [7])]
    expected = torch.tensor([[1, 0.25, 0], [0.25, 1, 0], [0, 0, 1]])
    torch.testing.assert_close(overlap_matrix(masks), expected)


@pytest.fixture(scope="module")
def funes():
    return mt.funes()


@pytest.fixture(scope="module")
def ready(funes):
    pairs = [Example(prompt=f.phrasings[0], answer=f.answer) for f in funes.world.facts[:24]]
    pairs += [Example(prompt="The river", answer="drifted past the meadow"), Example(text="At dawn the boat rested .")]
    return batches(funes.tokenizer, pairs, batch_size=16)


def test_what_a_language_model_answers_is_right_where_it_recalls(funes, ready) -> None:
    """Oracle: `adapters.scores.recall`; the answers themselves are those of decoding the facts."""
    found = answers_of(funes.model, ready)
    assert torch.equal(found.right.float(), recall(funes.model, ready))
    words = [funes.tokenizer.decode(list(given)) for given in found.given[:24]]
    assert words == [fact.answer for fact in funes.world.facts[:24]]
    assert len(found.given[24]) == 4
    assert ((found.confidence > 0) & (found.confidence <= 1)).all()
    assert found.confidence[:24].min() > 0.5


def test_quality_of_a_graft_beside_none(funes, ready) -> None:
    """Three layers without their MLPs answer worse and otherwise; with a mask that holds these, as the network did."""
    tuned, base = funes.model, copy.deepcopy(funes.model)
    regions: dict[str, Sparse] = {}
    for layer in range(3):
        name = f"transformer.h.{layer}.mlp.c_proj.weight"
        weight = tuned.get_parameter(name).detach()
        regions[name] = Sparse(name, tuple(weight.shape), torch.arange(weight.numel()), weight.flatten().double())
        with torch.no_grad():
            base.get_parameter(name).zero_()
    before = {n: p.clone() for n, p in base.named_parameters()}
    plain = quality(base, None, ready, tuned=tuned)
    grafted = quality(base, Mask(regions, 10**6), ready, tuned=tuned)
    assert grafted.agreement.value == 1
    assert grafted.accuracy.value == pytest.approx(float(recall(tuned, ready).mean()))
    assert plain.agreement.value < 0.9
    for part in (plain.accuracy, plain.agreement, plain.calibration_error, grafted.accuracy):
        assert 0 <= part.interval[0] <= part.interval[1] <= 1
        assert part.interval[0] <= part.value or part is plain.calibration_error
    answered = answers_of(base, ready)
    assert plain.calibration_error.value == pytest.approx(
        expected_calibration_error(answered.confidence, answered.right)
    )
    assert all(torch.equal(parameter, before[n]) for n, parameter in base.named_parameters())


def test_other_networks_are_asked_their_own_way(generator: torch.Generator) -> None:
    net = nn.Linear(4, 3)
    with torch.no_grad():
        net.weight.normal_(generator=generator)
    x = torch.randn(30, 4, generator=generator)

    def ask(model: nn.Module, data: torch.Tensor) -> Answers:
        with torch.no_grad():
            best = model(data).softmax(1).max(1)
        return Answers(best.indices.tolist(), best.values, best.indices == 0)

    found = quality(net, None, x, tuned=net, ask=ask)
    assert found.agreement.value == 1
    assert found.accuracy.value == pytest.approx(float((net(x).argmax(1) == 0).float().mean()))


@pytest.mark.parametrize(
    ("confidence", "right", "bins", "message"),
    [
        ([0.5, 0.5], [True], 3, r"got \(2,\) confidences, \(1,\) answers and 3 bins"),
        ([], [], 3, r"got \(0,\) confidences"),
        ([0.5], [True], 0, "and 0 bins; expected"),
        ([1.5], [True], 3, "got confidences from 1.5 to 1.5; expected probabilities"),
        ([float("nan")], [True], 3, "got confidences from nan to nan"),
    ],
)
def test_confidences_that_are_none_are_refused(confidence: list, right: list, bins: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(torch.tensor(confidence), torch.tensor(right, dtype=torch.bool), bins=bins)
