"""The phase diagram: ideal losses against integration, training against the ideal, the control without ReLU."""

import pytest
import torch

from mnemotrace.organisms.phase_diagram import PHASES, PhaseDiagram, ideal_losses, phase_diagram

DENSITIES, RATIOS = (1.0, 0.01), (0.1, 10.0)


def test_ideal_losses_are_those_of_the_ideal_networks() -> None:
    generator = torch.Generator().manual_seed(0)
    for p, ratio in ((1.0, 0.5), (0.3, 2.0)):
        shape = (100_000, 2)
        x = torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < p)
        weights = torch.tensor([1.0, ratio])
        found = ideal_losses((p,), (ratio,))[:, 0, 0]
        for k, w in enumerate(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]])):
            y = ((x @ w)[:, None] * w + (w == 0) * p / 2).relu()
            assert float(found[k]) == pytest.approx(float(((x - y).square() * weights).sum(1).mean()), rel=0.05)


@pytest.fixture(scope="module")
def found() -> PhaseDiagram:
    return phase_diagram(DENSITIES, RATIOS, steps=100)


def test_training_ends_where_the_closed_form_says(found: PhaseDiagram) -> None:
    assert [PHASES[i] for i in found.phases[0]] == ["first feature", "second feature"]
    assert not bool((found.phases[0] == 2).any()) and bool((found.phases[1] == 2).all())
    assert bool(found.agrees.all()) and found.weight.shape == (2, 2, 2) and found.losses.shape == (2, 2, 4)


def test_without_relu_the_more_important_feature_is_kept_at_every_density() -> None:
    control = phase_diagram(DENSITIES, RATIOS, steps=100, linear=True)
    assert control.phases.tolist() == [[0, 1], [0, 1]] and bool(control.agrees.all())
    assert not bool((control.phases == 2).any())


def test_a_cell_that_ends_elsewhere_does_not_agree(found: PhaseDiagram) -> None:
    weight = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [[1.0, -1.0], [1.0, 0.0], [0.1, 0.1]]])
    other = PhaseDiagram((1.0, 0.02), (0.2, 1.0, 5.0), weight, found.losses)
    assert other.phases.tolist() == [[0, 1, 0], [2, 0, 3]]
    assert other.agrees.tolist() == [[True, True, False], [True, False, False]]  # at equal importance either is right
    back = PhaseDiagram.unpack(found.pack())
    assert torch.equal(back.phases, found.phases) and back.ratios == RATIOS and back.manifest == found.manifest


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"got 0 densities and ratios \(1.0,\); expected at least one of each"):
        phase_diagram((), (1.0,))
    with pytest.raises(ValueError, match=r"ratios \(0.0, 1.0\); expected at least one of each, ratios above 0"):
        phase_diagram((0.1,), (0.0, 1.0))
    with pytest.raises(ValueError, match="got density from 2 to 2"):
        phase_diagram((2.0,), (1.0,))
