"""Rows of inputs of every form, and scores that are the network's own word."""

from typing import Any

import pytest
import torch
from torch import nn

import mnemotrace as mt
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.evaluation.judging import Bench, Examples, answers, own_word
from tests.conftest import Builder


def test_a_tensor_a_mapping_and_batches_of_them_are_the_same_examples() -> None:
    x = torch.rand(9, 4)
    rows = torch.tensor([7, 0, 3])
    for inputs in (x, x.split(4), {"input": x}, [{"input": part} for part in x.split(5)]):
        examples = Examples.of(inputs, last=False)
        assert len(examples) == 9
        taken = examples.take(rows).inputs
        assert torch.equal(taken if isinstance(taken, torch.Tensor) else taken["input"], x[rows])
    assert Examples.of(x, last=False).mask() is None


def test_masked_batches_of_other_lengths_are_padded_at_the_end() -> None:
    batches = [
        {"input_ids": torch.ones(2, t, dtype=torch.long), "attention_mask": torch.ones(2, t, dtype=torch.long)}
        for t in (3, 5)
    ]
    joined = Examples.of(batches, last=True)
    assert isinstance(joined.inputs, dict)
    assert joined.inputs["attention_mask"].sum(1).tolist() == [3, 3, 5, 5]
    mask = joined.mask()
    assert mask is not None
    assert mask(joined.inputs).nonzero()[:, 1].tolist() == [2, 2, 4, 4]
    assert mask(torch.ones(2, 6, dtype=torch.long)).nonzero()[:, 1].tolist() == [5, 5]


def test_answers_are_those_at_the_last_position_that_counts(tiny_gpt2: Builder, tokens: torch.Tensor) -> None:
    model = tiny_gpt2()
    lengths = torch.tensor([12, 5, 9, 1])
    mask = (torch.arange(12) < lengths[:, None]).long()
    found = answers(model, Examples.of({"input_ids": tokens, "attention_mask": mask}, last=True))
    with torch.no_grad():
        wanted = [
            model(input_ids=row[None, :n]).logits[0, -1].log_softmax(0) for row, n in zip(tokens, lengths, strict=True)
        ]
    assert torch.allclose(found, torch.stack(wanted), atol=1e-5)


def test_the_score_is_the_probability_of_the_own_answer() -> None:
    model, x = nn.Linear(4, 3), torch.rand(9, 4)
    examples = Examples.of(x, last=False)
    said = answers(model, examples).argmax(1)
    with torch.no_grad():
        wanted = model(x).softmax(1).amax(1)
    assert torch.allclose(own_word(model, (examples, said)), wanted)


def test_engrams_of_groups_are_those_of_their_rows_with_the_others_as_reference() -> None:
    """Statistics of disjoint groups are added up; of groups that overlap each reference is collected."""
    model, x = nn.Linear(4, 3), torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    groups = torch.arange(60) % 3
    judge = torch.arange(60) >= 54
    solve = {"selectivity": 1.0, "solver": "ridge", "rcond": 1e-3}
    bench = Bench(model, Examples.of(x, last=False), groups, judge, 1 / 3, None, solve, {})
    kept = torch.arange(60) != 5
    disjoint = (groups[:, None] == torch.arange(3)) & kept[:, None]
    for members in (disjoint, torch.cat([disjoint, disjoint[:, :1] | disjoint[:, 1:2]], 1)):
        for k, found in enumerate(bench.engrams(members, kept)):
            mine, rest = members[:, k] & ~judge, kept & ~members[:, k] & ~judge
            statistics = {"target": mt.collect(model, [x[mine]]), "reference": mt.collect(model, [x[rest]])}
            wanted = mt.engram(model, **statistics, solver="ridge", rcond=1e-3)
            assert found is not None
            assert torch.allclose(found["root"].dense(), wanted["root"].dense(), atol=1e-5)
    assert bench.engrams(disjoint & (torch.arange(60) < 12)[:, None], kept) == [None] * 3
    few = bench.criteria(wanted, judge, kept, torch.Generator())
    assert few == "0 examples to judge by; 8 are needed"


@pytest.mark.parametrize("inputs", [[], [(torch.rand(3),)], "text", [torch.rand(3), {"x": torch.rand(3)}]])
def test_inputs_without_rows_are_refused(inputs: Any) -> None:
    with pytest.raises(TypeError, match=r"got inputs of type \w+; expected a tensor \(n, ...\), a mapping of such"):
        Examples.of(inputs, last=False)


@pytest.mark.parametrize(
    ("model", "x", "error", "message"),
    [
        (nn.Conv2d(1, 2, 3), torch.rand(3, 1, 5, 5), ValueError, r"got an output of shape \(3, 2, 3, 3\); expected"),
        (nn.Identity(), torch.full((3, 2), torch.nan), NonFiniteError, "non-finite of 6 entries in the output"),
        (
            nn.Identity(),
            torch.rand(3, 2, 4),
            ValueError,
            r"got inputs \(3, 2, 4\) of torch.float32 without an attention",
        ),
    ],
)
def test_networks_that_give_no_answers_are_told(
    model: nn.Module, x: torch.Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        answers(model, Examples.of(x, last=False))
