"""A dictionary as a value: its equations, its file, what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemotrace.core.artifact import Artifact, read, write
from mnemotrace.core.errors import ArtifactError, NonFiniteError
from mnemotrace.localisation.code import Code
from mnemotrace.localisation.dictionary import Dictionary

M, D, OUT = 7, 4, 3
X = torch.randn(50, D, generator=torch.Generator().manual_seed(1))


def small(**changes: Any) -> Dictionary:
    g = torch.Generator().manual_seed(0)
    decoder = torch.randn(M, OUT, generator=g)
    made = {
        "encoder": torch.randn(M, D, generator=g), "encoder_bias": torch.randn(M, generator=g),
        "decoder": decoder / decoder.norm(dim=1, keepdim=True), "bias": torch.randn(D, generator=g),
        "output_bias": torch.randn(OUT, generator=g), "variant": "topk", "k": 2, "sample": X[:9],
    }  # fmt: skip
    return Dictionary(**(made | changes))


THRESHOLDS = {
    "topk": None,
    "batch_topk": torch.tensor(0.7),
    "jump_relu": torch.linspace(0, 2, M),
    "matryoshka": torch.tensor(0.7),
    "relu": torch.tensor(0.0),
}


@pytest.mark.parametrize("variant", THRESHOLDS)
def test_codes_are_those_of_the_equations(variant: str) -> None:
    one = small(variant=variant, threshold=THRESHOLDS[variant])
    p = (X - one.bias) @ one.encoder.T + one.encoder_bias
    if one.threshold is None:
        kth = p.topk(2).values[:, -1:]
        expected = torch.where((p >= kth) & (p > 0), p, 0)
    else:
        expected = torch.where(p > one.threshold, p, 0)
    torch.testing.assert_close(one.encode(X).dense(), expected)
    torch.testing.assert_close(one(X), expected @ one.decoder + one.output_bias)
    assert one(X.view(5, 10, D).half()).shape == (5, 10, OUT) and one(X.half()).dtype == torch.float16


@pytest.mark.parametrize("variant", THRESHOLDS)
def test_a_file_gives_the_same_codes_bit_for_bit(variant: str, tmp_path: Path) -> None:
    one = small(variant=variant, threshold=THRESHOLDS[variant], prefixes=(2, M) if variant == "matryoshka" else ())
    again = Dictionary.unpack(read(write(one.pack(), tmp_path / "d.safetensors"), "dictionary"))
    assert torch.equal(again.encode(X).values, one.encode(X).values)
    assert torch.equal(again.encode(X).indices, one.encode(X).indices)
    assert (again.variant, again.k, again.prefixes) == (one.variant, one.k, one.prefixes)


@pytest.mark.parametrize("broken", ["k", "threshold", "encoder"])
def test_a_file_whose_parts_are_not_of_one_dictionary_does_not_load(broken: str) -> None:
    whole = small(threshold=None if broken == "k" else torch.tensor(0.7), k=2).pack()
    header, tensors = dict(whole.header), dict(whole.tensors)
    if broken == "k":
        header["k"] = 5  # a TopK read with another k
    elif broken == "threshold":
        tensors["threshold"] = torch.tensor(0.0)  # a BatchTopK read as a ReLU
    else:
        tensors["encoder"] = tensors["encoder"] * 30  # a scale in the wrong place
    with pytest.raises(ArtifactError, match=r"active latents a row on the file's own sample; expected"):
        Dictionary.unpack(Artifact(whole.kind, header, tensors))


def test_many_rows_are_encoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    one = small(variant="relu", threshold=torch.tensor(0.0))
    whole = one.encode(X)
    monkeypatch.setattr("mnemotrace.localisation.dictionary._AT_ONCE", 3 * M)
    torch.testing.assert_close(one.encode(X).dense(), whole.dense())


def test_it_moves_and_says_its_size() -> None:
    one = small().to(torch.float64)
    assert one.encoder.dtype == one.encode(X).values.dtype == torch.float64 and one.threshold is None
    assert (one.m, one.d, one.d_out, one.nbytes) == (M, D, OUT, 8 * (M * D + M + M * OUT + D + OUT + 9 * D))


def test_what_is_no_dictionary_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(m,\), \(m, d_out\), \(d,\), \(d_out,\)"):
        small(bias=torch.zeros(9))
    with pytest.raises(ValueError, match=r"got variant='gated'; expected one of topk"):
        small(variant="gated")
    with pytest.raises(ValueError, match=r"got k=None without a threshold; expected 1 to 7"):
        small(k=None)
    with pytest.raises(ValueError, match=r"got a threshold of shape \(2,\); expected \(\) or \(7,\)"):
        small(threshold=torch.ones(2))
    with pytest.raises(ValueError, match=r"got a negative threshold"):
        small(threshold=torch.tensor(-1.0))
    with pytest.raises(ValueError, match=r"got decoder rows of length 2 to 2; expected 1"):
        small(decoder=2 * small().decoder)
    with pytest.raises(ValueError, match=r"got activations \(5, 3\); expected \(n, 4\)"):
        small().encode(torch.ones(5, 3))
    with pytest.raises(NonFiniteError, match=r"in activations"):
        small().encode(torch.full((5, D), torch.nan))
    with pytest.raises(ValueError, match=r"got a code over 3 latents; expected 7"):
        small().decode(Code(torch.ones(1, 1), torch.zeros(1, 1).long(), 3))


def test_without_a_sample_nothing_is_checked() -> None:
    bare = replace(small(), sample=None).pack()
    assert bare.header["active"] is None and Dictionary.unpack(bare).sample is None
