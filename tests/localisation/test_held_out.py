"""Halves share no item and keep the mix of concepts and views; what is chosen on one is judged on the other."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemotrace.localisation.auroc import auroc
from mnemotrace.localisation.held_out import Half, halves, judge, set_aside, shuffled, strata_of
from mnemotrace.localisation.stimuli import Labels, members_of


def _labels(seed: int, *, paired: bool = True) -> Labels:
    """Items of three concepts; `paired` items are seen in both views, others in one of the two."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(4, 9, (3,), generator=generator)
    of_items = torch.arange(3).repeat_interleave(sizes)
    n = len(of_items)
    if paired:
        concepts, views, items = of_items.repeat(2), torch.arange(2).repeat_interleave(n), torch.arange(n).repeat(2)
    else:
        concepts, views, items = of_items, torch.arange(n) % 2, torch.arange(n)
    order = torch.randperm(len(concepts), generator=generator)
    return Labels.of(concepts[order], views[order], items[order])


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), paired=st.booleans())
def test_halves_are_of_items_concepts_and_views(seed: int, paired: bool) -> None:
    labels = _labels(seed, paired=paired)
    first = halves(labels, torch.Generator().manual_seed(seed))
    assert not set(labels.items[first].tolist()) & set(labels.items[~first].tolist())
    for concept in range(3):
        for view in range(2):
            here = (labels.concepts == concept) & (labels.views == view)
            chosen, tested = int((here & first).sum()), int((here & ~first).sum())
            assert chosen >= 1
            assert tested - chosen in (0, 1)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), paired=st.booleans())
def test_shuffles_keep_items_whole_and_the_counts_of_each_view(seed: int, paired: bool) -> None:
    labels = _labels(seed, paired=paired)
    mixed = shuffled(labels, torch.Generator().manual_seed(seed))
    again = Labels.of(mixed, labels.views, labels.items)  # an item of two concepts would be an error
    for view in range(2):
        here = labels.views == view
        assert torch.equal(torch.bincount(mixed[here], minlength=3), torch.bincount(labels.concepts[here], minlength=3))
    assert again.count == 3


def test_another_seed_is_another_half_and_another_order() -> None:
    labels = _labels(0)
    drawn = [[make(labels, torch.Generator().manual_seed(s)) for s in (0, 0, 1)] for make in (halves, shuffled)]
    for same, again, other in drawn:
        assert torch.equal(same, again)
        assert not torch.equal(same, other)


def test_scores_are_within_views() -> None:
    """A unit that a view lifts as a whole is as selective as before."""
    labels = _labels(1)
    values = torch.randn(len(labels.concepts), 4, generator=torch.Generator().manual_seed(0))
    lifted = values + 100.0 * labels.views[:, None]
    half = Half.of({"a": lifted}, {"a": labels})
    scores = half.scores()
    assert strata_of(half.labels) == ("a / 0", "a / 1")
    for view in range(2):
        rows = labels.views == view
        assert torch.allclose(scores[view], auroc(values[rows], members_of(labels.concepts[rows], 3)))


def test_a_concept_is_chosen_on_one_half_and_tested_on_the_other() -> None:
    """Units that change their concept between the halves are chosen for the first and fail on the second."""
    concepts = torch.arange(60) % 3
    labels = Labels.of(concepts)
    steady = members_of(concepts, 3).float()
    turned = members_of((concepts + 1) % 3, 3).float()
    first = Half.of({"a": torch.cat([steady, steady], 1)}, {"a": labels})
    second = Half.of({"a": torch.cat([steady, turned], 1)}, {"a": labels})
    judged = judge(first, second)
    assert judged.preferred.tolist() == [0, 1, 2, 0, 1, 2]
    assert judged.score.tolist() == [1, 1, 1, 0.25, 0.25, 0.25]
    assert judged.held[:, 0].tolist() == judged.score.tolist()


def test_setting_aside_shows_the_second_concept() -> None:
    concepts = torch.arange(200) % 10
    labels = Labels.of(concepts)
    values = torch.stack([(concepts < 2).float() + 0.1 * (concepts == 0), (concepts == 4).float()], 1)
    half = Half.of({"a": values}, {"a": labels})
    judged = judge(half, half)
    assert judged.auroc[0, 1] < 0.95
    beside = set_aside({"a": values}, half, judged)
    assert beside[0, :2].tolist() == [1, 1]
    assert float(beside[0, 2:].max()) < 0.6
    assert beside[1, 4] == 1
    assert float(beside[1].topk(2).values[1]) < 0.6
    for unit in range(2):
        first, second = int(judged.preferred[unit]), int(judged.second[unit])
        for concept in range(10):
            others = concepts != (second if concept == first else first)
            wanted = auroc(values[others][:, [unit]], (concepts == concept)[others])
            assert torch.allclose(beside[unit, concept], wanted)


def test_of_two_concepts_none_is_set_aside() -> None:
    labels = Labels.of(torch.arange(12) % 2)
    values = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
    half = Half.of({"a": values}, {"a": labels})
    judged = judge(half, half)
    assert torch.equal(set_aside({"a": values}, half, judged), judged.auroc)
