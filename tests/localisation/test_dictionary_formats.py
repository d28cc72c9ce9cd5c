"""Round trips through other people's files, for every variant and format; what cannot be held is refused."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from mnemotrace.core.errors import ArtifactError
from mnemotrace.localisation.dictionary import Dictionary
from mnemotrace.localisation.dictionary_formats import FORMATS, read_dictionary, write_dictionary

D, M, K = 6, 20, 3
X = 2 * torch.randn(40, D, generator=torch.Generator().manual_seed(9)) + 0.5
HELD = {
    "saelens": ("relu", "topk", "batch_topk", "jump_relu", "matryoshka"),
    "dictionary_learning": ("relu", "topk", "batch_topk", "jump_relu", "matryoshka"),
    "sparsify": ("topk",),
}
PAIRS = [(kind, variant) for kind, variants in HELD.items() for variant in variants]


def _made(variant: str, *, shared: bool = True, seed: int = 0) -> Dictionary:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    thresholds: dict[str, Any] = {
        "relu": torch.zeros(()),
        "topk": None,
        "batch_topk": torch.tensor(0.7),
        "matryoshka": torch.tensor(0.7),
        "jump_relu": draw(M).abs(),
    }
    bias = draw(D)
    return Dictionary(
        draw(M, D),
        0.3 * draw(M),
        torch.nn.functional.normalize(draw(M, D), dim=1),
        bias,
        bias if shared else draw(D),
        variant,
        None if variant in ("relu", "jump_relu") else K,
        thresholds[variant],
        prefixes=(5, M) if variant == "matryoshka" else (),
        site="h.1",
    )


@pytest.mark.parametrize(("kind", "variant"), PAIRS)
@settings(max_examples=3)
@given(shared=st.booleans(), seed=st.integers(0, 9))
def test_what_is_written_is_read_back(kind: str, variant: str, tmp_path_factory: Any, shared: bool, seed: int) -> None:
    made = _made(variant, shared=shared, seed=seed)
    folder = write_dictionary(made, tmp_path_factory.mktemp("d"), format=kind)
    back = read_dictionary(folder)
    for name in ("variant", "k", "prefixes", "site"):
        assert getattr(back, name) == getattr(made, name)
    code, again = made.encode(X), back.encode(X)
    assert again.l0 == code.l0
    assert torch.equal(again.dense() != 0, code.dense() != 0)
    assert torch.allclose(again.dense(), code.dense(), atol=1e-5)
    assert torch.allclose(back(X), made(X), atol=1e-5)
    if shared and variant != "jump_relu":
        assert torch.equal(again.dense(), code.dense())


def test_a_top_k_file_says_so(tmp_path: Path) -> None:
    """Read as a ReLU it would have several times as many latents on."""
    made = _made("topk")
    config = json.loads((write_dictionary(made, tmp_path, format="saelens") / "cfg.json").read_text())
    assert (config["architecture"], config["k"], config["normalize_activations"]) == ("topk", K, "none")
    relu = replace(made, variant="relu", k=None, threshold=torch.zeros(()))
    assert relu.encode(X).l0 > 2 * K
    assert read_dictionary(tmp_path).encode(X).l0 == K


def test_files_of_others_know_a_threshold_as_a_jump_relu(tmp_path: Path) -> None:
    """What SAELens itself does with batch top-k; without our note the variant is lost and the codes are not."""
    made = _made("batch_topk")
    folder = write_dictionary(made, tmp_path, format="saelens")
    config = json.loads((folder / "cfg.json").read_text())
    assert config["architecture"] == "jumprelu"
    del config["metadata"]["mnemotrace"]
    (folder / "cfg.json").write_text(json.dumps(config))
    back = read_dictionary(folder, site="h.2")
    assert (back.variant, back.k, back.site) == ("jump_relu", None, "h.2")
    assert torch.equal(back.encode(X).dense(), made.encode(X).dense())


def test_orientation_and_names_are_the_others(tmp_path: Path) -> None:
    made = _made("topk")
    lens = load_file(write_dictionary(made, tmp_path / "a", format="saelens") / "sae_weights.safetensors")
    assert {n: tuple(t.shape) for n, t in lens.items()} == {
        "W_enc": (D, M),
        "b_enc": (M,),
        "W_dec": (M, D),
        "b_dec": (D,),
    }
    sparse = load_file(write_dictionary(made, tmp_path / "b", format="sparsify") / "sae.safetensors")
    assert sorted(sparse) == ["W_dec", "b_dec", "encoder.bias", "encoder.weight"]
    learned = torch.load(
        write_dictionary(made, tmp_path / "c", format="dictionary_learning") / "ae.pt", weights_only=True
    )
    assert tuple(learned["decoder.weight"].shape) == (D, M)
    assert int(learned["k"]) == K


@pytest.mark.parametrize(
    ("made", "kind", "message"),
    [
        (_made("relu"), "sparsify", "got variant='relu'; expected topk, the only one of sparsify"),
        (_made("topk"), "onnx", "got format='onnx'; expected one of saelens, dictionary_learning, sparsify"),
        (
            replace(_made("batch_topk"), threshold=torch.rand(M)),
            "dictionary_learning",
            "a threshold a latent; expected",
        ),
        (replace(_made("batch_topk"), threshold=None), "dictionary_learning", "without a threshold; expected one"),
        (replace(_made("batch_topk"), k=None), "dictionary_learning", "got batch_topk without k; expected"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(made: Dictionary, kind: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_dictionary(made, tmp_path / "new", format=kind)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_transcoder_is_refused(kind: str, tmp_path: Path) -> None:
    made = _made("topk")
    wide = replace(made, decoder=torch.nn.functional.normalize(torch.rand(M, 4), dim=1), output_bias=torch.zeros(4))
    with pytest.raises(ValueError, match=f"got a transcoder from {D} to 4"):
        write_dictionary(wide, tmp_path, format=kind)


def test_a_folder_without_a_dictionary_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "cfg.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="with cfg.json; expected cfg.json and sae_weights.safetensors"):
        read_dictionary(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_dictionary(tmp_path / "none")


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"trainer": {"dict_class": "AutoEncoder"}}')
    torch.save({"encoder.weight": Path("x")}, tmp_path / "ae.pt")
    with pytest.raises(Exception, match="[Ww]eights"):
        read_dictionary(tmp_path)


def _scaled(tmp_path: Path, how: object, factor: float | None = None) -> Path:
    folder = write_dictionary(_made("batch_topk"), tmp_path, format="saelens")
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(config | {"normalize_activations": how}))
    if factor is not None:
        (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": factor}))
    return folder


@pytest.mark.parametrize("given_as", ["argument", "file"])
def test_a_scale_of_activations_is_folded_in(tmp_path: Path, given_as: str) -> None:
    """The network's activations go in, and come out, unscaled."""
    made, factor = _made("batch_topk"), 0.37
    folder = _scaled(tmp_path, "expected_average_only_in", factor if given_as == "file" else None)
    back = read_dictionary(folder, scale=factor if given_as == "argument" else None)
    assert torch.allclose(back(X), made(X * factor) / factor, atol=1e-5)
    assert torch.allclose(back.encode(X).dense(), made.encode(X * factor).dense() / factor, atol=1e-5)
    assert float(back.decoder.norm(dim=1).sub(1).abs().max()) < 1e-6


@pytest.mark.parametrize("how", ["layer_norm", "constant_norm_rescale", "covariance_whitening"])
def test_a_normalisation_that_is_no_number_is_refused(tmp_path: Path, how: str) -> None:
    with pytest.raises(ArtifactError, match=f"got activations normalised by '{how}'; expected activations as they are"):
        read_dictionary(_scaled(tmp_path, how, 0.5), scale=0.5)


def test_a_scale_that_is_nowhere_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="normalised by 'expected_average_only_in'; expected scale="):
        read_dictionary(_scaled(tmp_path, "expected_average_only_in"))


@pytest.mark.slow
@pytest.mark.parametrize("variant", HELD["dictionary_learning"])
def test_dictionary_learning_reads_ours_and_gives_the_same(variant: str, tmp_path: Path) -> None:
    pytest.importorskip("dictionary_learning", reason="no dictionary_learning, which needs nnsight")
    made = _made(variant)
    config = json.loads((write_dictionary(made, tmp_path, format="dictionary_learning") / "config.json").read_text())
    home = {
        "topk": "trainers.top_k",
        "batch_topk": "trainers.batch_top_k",
        "matryoshka": "trainers.matryoshka_batch_top_k",
    }
    module = importlib.import_module(f"dictionary_learning.{home.get(variant, 'dictionary')}")
    theirs = getattr(module, config["trainer"]["dict_class"]).from_pretrained(tmp_path / "ae.pt")
    with torch.no_grad():
        assert torch.allclose(theirs(X), made(X), atol=1e-5)
        assert torch.allclose(theirs.encode(X), made.encode(X).dense(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("variant", HELD["saelens"])
def test_saelens_reads_ours_and_gives_the_same(variant: str, tmp_path: Path) -> None:
    saes = pytest.importorskip("sae_lens", reason="no sae_lens, which needs transformer_lens")
    made = _made(variant)
    theirs = saes.SAE.load_from_disk(write_dictionary(made, tmp_path, format="saelens"))
    with torch.no_grad():
        assert torch.allclose(theirs(X), made(X), atol=1e-5)
        assert torch.allclose(theirs.encode(X), made.encode(X).dense(), atol=1e-5)
