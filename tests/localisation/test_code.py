"""Sparse rows and their decoding, beside dense ones."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemotrace.localisation.code import Code, decoded


@given(n=st.integers(0, 6), m=st.integers(1, 9), seed=st.integers(0, 99), share=st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=12, deadline=None)
def test_a_code_says_what_dense_rows_say(n: int, m: int, seed: int, share: float) -> None:
    g = torch.Generator().manual_seed(seed)
    dense = torch.rand(n, m, generator=g, dtype=torch.float64).add(0.1) * (torch.rand(n, m, generator=g) < share)
    code = Code.of(dense)
    assert torch.equal(code.dense(), dense) and len(code) == n
    assert torch.equal(code.active, (dense != 0).sum(1)) and torch.equal(code.counts(), (dense != 0).sum(0))
    assert code.l0 == pytest.approx(float((dense != 0).sum()) / max(n, 1))
    decoder = torch.randn(m, 4, generator=g, dtype=torch.float64)
    torch.testing.assert_close(decoded(code, decoder), dense @ decoder)


def test_fillings_say_nothing_wherever_they_point() -> None:
    code = Code(torch.tensor([[2.0, 0.0], [1.0, 3.0]]), torch.tensor([[1, 1], [0, 2]]), 3)
    assert code.dense().tolist() == [[0, 2, 0], [1, 0, 3]] and code.l0 == 1.5
    assert code.to(torch.float64).values.dtype == torch.float64 and code.to(torch.float64).indices.dtype == torch.int64


def test_decoding_gives_gradients_to_values_and_decoder() -> None:
    values = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    decoder = torch.rand(5, 4, dtype=torch.float64, requires_grad=True)
    indices = torch.tensor([[0, 1], [2, 4], [1, 3]])
    assert torch.autograd.gradcheck(lambda v, d: decoded(Code(v, indices, 5), d), (values, decoder))


def test_what_is_no_code_is_refused() -> None:
    with pytest.raises(TypeError, match=r"got indices of torch.int32; expected torch.int64"):
        Code(torch.ones(2, 1), torch.zeros(2, 1).int(), 3)
    with pytest.raises(ValueError, match=r"got values \(2, 1\) and indices \(2, 2\); expected \(n, k\) twice"):
        Code(torch.ones(2, 1), torch.zeros(2, 2).long(), 3)
    with pytest.raises(ValueError, match=r"got indices from 0 to 3; expected 0 to 2"):
        Code(torch.ones(1, 2), torch.tensor([[0, 3]]), 3)
