"""Files as others write them, beside their forward pass written out: classes, lengths, gates, old versions."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mnemotrace.core.errors import ArtifactError
from mnemotrace.localisation.dictionary import Dictionary
from mnemotrace.localisation.dictionary_reading import (
    from_dictionary_learning,
    from_saelens,
    from_sparsify,
    made,
    unscaled,
)

D, M, K = 6, 20, 3
_SOURCE = torch.Generator().manual_seed(0)


def _draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_SOURCE)


X = 2 * _draw(50, D) + 0.5
W_ENC, B_ENC, W_DEC, B_DEC = _draw(D, M), 0.3 * _draw(M), _draw(M, D) + 0.1, _draw(D)
LENGTH = W_DEC.norm(dim=1)
UNIT = W_DEC / LENGTH[:, None]
LENS = {"W_enc": W_ENC, "b_enc": B_ENC, "W_dec": W_DEC, "b_dec": B_DEC}
LEARNED = {"encoder.weight": W_ENC.T, "encoder.bias": B_ENC, "decoder.weight": UNIT.T, "b_dec": B_DEC}
R, GATE, MAGNITUDE = 0.5 * _draw(M), _draw(M), _draw(M)


def _made(parts: Any) -> Dictionary:
    return made(unscaled(parts, 1.0))


def _top(p: Tensor) -> Tensor:
    p = p.relu()
    return torch.zeros_like(p).scatter(1, p.topk(K, 1).indices, p.topk(K, 1).values)


P, Q = (X - B_DEC) @ W_ENC + B_ENC, X @ W_ENC + B_ENC
GATED = (((X - B_DEC) @ W_ENC + GATE) > 0) * ((X - B_DEC) @ (W_ENC * R.exp()) + MAGNITUDE).relu()
LENS_CASES: dict[str, tuple[dict[str, Any], dict[str, Tensor], Tensor, Tensor]] = {
    "relu": ({"architecture": "standard"}, LENS, P.relu(), W_DEC),
    "bias not taken": ({"architecture": "standard", "apply_b_dec_to_input": False}, LENS, Q.relu(), W_DEC),
    "top k": ({"architecture": "topk", "k": K}, {**LENS, "W_dec": UNIT}, _top(P), UNIT),
    "top k by length": (
        {"architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": True},
        LENS,
        _top(P * LENGTH) / LENGTH,
        W_DEC,
    ),
    "top k before version 6": (
        {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "hook_name": "blocks.1"},
        {**LENS, "W_dec": UNIT},
        _top(P),
        UNIT,
    ),
    "jump relu": ({"architecture": "jumprelu"}, {**LENS, "threshold": LENGTH}, P * (P > LENGTH), W_DEC),
    "gated": (
        {"architecture": "gated"},
        {"W_enc": W_ENC, "W_dec": W_DEC, "b_dec": B_DEC, "r_mag": R, "b_gate": GATE, "b_mag": MAGNITUDE},
        GATED,
        W_DEC,
    ),
    "batch top k": (
        {"architecture": "batchtopk", "k": 3.0, "rescale_acts_by_decoder_norm": True},
        {**LENS, "topk_threshold": torch.tensor(0.9, dtype=torch.float64)},
        P * (P * LENGTH > 0.9),
        W_DEC,
    ),
}


@pytest.mark.parametrize("case", LENS_CASES)
def test_saelens(case: str) -> None:
    config, tensors, code, decoder = LENS_CASES[case]
    found = _made(from_saelens(config, tensors))
    assert torch.allclose(found(X), code @ decoder + B_DEC, atol=2e-5)
    assert torch.equal(found.encode(X).dense() != 0, code != 0)
    assert torch.allclose(found.encode(X).dense(), code * decoder.norm(dim=1), atol=2e-5)


def _class(name: str, **more: Any) -> dict[str, Any]:
    return {"trainer": {"dict_class": name, "layer": 3, **more}}


_JUMP = {"W_enc": W_ENC, "b_enc": B_ENC, "W_dec": UNIT, "b_dec": B_DEC}
_GATES = {"r_mag": R, "gate_bias": GATE, "mag_bias": MAGNITUDE, "decoder_bias": B_DEC}
_OLD = {name: tensor for name, tensor in LEARNED.items() if name != "b_dec"}
LEARNED_CASES: dict[str, tuple[dict[str, Any], dict[str, Tensor], Tensor]] = {
    "AutoEncoder": ({}, {**_OLD, "bias": B_DEC}, P.relu()),
    "AutoEncoderNew": ({}, {**_OLD, "decoder.bias": B_DEC}, Q.relu()),
    "GatedAutoEncoder": ({}, {"encoder.weight": W_ENC.T, "decoder.weight": UNIT.T, **_GATES}, GATED),
    "JumpReluAutoEncoder": ({}, {**_JUMP, "threshold": LENGTH}, Q * (Q > LENGTH)),
    "AutoEncoderTopK": ({"k": K}, {**LEARNED, "k": torch.tensor(K), "threshold": torch.tensor(-1.0)}, _top(P)),
    "BatchTopKSAE": ({"k": K}, {**LEARNED, "k": torch.tensor(K), "threshold": torch.tensor(0.8)}, P * (P > 0.8)),
    "MatryoshkaBatchTopKSAE": (
        {"k": K},
        {**_JUMP, "k": torch.tensor(K), "threshold": torch.tensor(0.8), "group_sizes": torch.tensor([5, 15])},
        P * (P > 0.8),
    ),
}


@pytest.mark.parametrize("name", LEARNED_CASES)
def test_dictionary_learning(name: str) -> None:
    config, tensors, code = LEARNED_CASES[name]
    found = _made(from_dictionary_learning(_class(name, **config), tensors))
    assert torch.allclose(found(X), code @ UNIT + B_DEC, atol=2e-5)
    assert torch.equal(found.encode(X).dense() != 0, code != 0)
    assert found.prefixes == ((5, 20) if name == "MatryoshkaBatchTopKSAE" else ())


@pytest.mark.parametrize("transcode", [False, True])
def test_sparsify(transcode: bool) -> None:
    tensors = {"encoder.weight": W_ENC.T, "encoder.bias": B_ENC, "W_dec": UNIT, "b_dec": B_DEC}
    found = _made(from_sparsify({"activation": "topk", "k": K, "d_in": D, "transcode": transcode}, tensors))
    assert torch.allclose(found(X), _top(Q if transcode else P) @ UNIT + B_DEC, atol=2e-5)
    assert found.variant == "topk"


def test_half_precision_becomes_float32() -> None:
    found = _made(from_saelens({"architecture": "standard"}, {name: t.bfloat16() for name, t in LENS.items()}))
    assert found.encoder.dtype == torch.float32
    assert float(found.decoder.norm(dim=1).sub(1).abs().max()) < 1e-6


_TOP = {"architecture": "topk", "k": K}
_UNSET = {**LEARNED, "k": torch.tensor(K), "threshold": torch.tensor(-1.0)}


@pytest.mark.parametrize(
    ("read", "config", "tensors", "message"),
    [
        (from_saelens, _TOP, LENS, r"got a top-k dictionary with decoder rows of length .* chooses before that length"),
        (from_saelens, {"architecture": "topk"}, LENS, "got no 'k' among architecture; expected it"),
        (from_saelens, {"architecture": "temporal"}, LENS, "architecture 'temporal', .*; expected standard, topk"),
        (from_saelens, {"activation_fn": "tanh-relu"}, LENS, "activation 'tanh-relu'; expected"),
        (from_saelens, {"architecture": "jumprelu"}, LENS, "got no 'threshold' among"),
        (from_saelens, {}, {**LENS, "scaling_factor": 2 * torch.ones(M)}, "got scaling_factor, one factor a latent"),
        (from_saelens, {}, {**LENS, "W_dec": torch.zeros(M, D)}, "got 20 decoder rows of length 0"),
        (from_dictionary_learning, {}, LEARNED, "got no 'trainer' among"),
        (from_dictionary_learning, _class("CrossCoder"), LEARNED, "of class 'CrossCoder'; expected AutoEncoder,"),
        (from_dictionary_learning, _class("BatchTopKSAE"), _UNSET, "got threshold -1, which training had not set"),
        (from_dictionary_learning, _class("BatchTopKSAE", k=9), _UNSET, "got k=3 in ae.pt and k=9 in config.json"),
        (from_dictionary_learning, _class("AutoEncoderTopK"), LEARNED, "got no 'k' among dict_class, layer"),
        (from_sparsify, {"k": K, "signed": True}, {}, "activation 'topk' and signed; expected"),
        (from_sparsify, {"k": K, "activation": "groupmax"}, {}, "activation 'groupmax'"),
        (from_sparsify, {"k": K}, {"W_skip": B_DEC}, "and W_skip; expected topk without a skip connection"),
    ],
)
def test_what_we_lack_is_refused(read: Any, config: dict[str, Any], tensors: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        _made(read(config, tensors))
