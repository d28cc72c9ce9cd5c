"""The small file form of an engram: rows and right factor in 16 bits, left factors from the network."""

from pathlib import Path

import pytest
import torch

import mnemotrace as mt
from mnemotrace.core.errors import ArtifactError


@pytest.fixture
def extracted(tiny_llama):
    model = tiny_llama(hidden_size=64, intermediate_size=96)
    ids = torch.randint(2, 64, (17, 32), generator=torch.Generator().manual_seed(0))
    batches = [{"input_ids": ids[1:]}], [{"input_ids": ids[:1, :16]}]
    reference, target = (mt.collect(model, batch) for batch in batches)
    return model, mt.engram(model, target=target, reference=reference, solver="ridge")


def test_the_small_file_gives_the_engram_back_within_the_error_that_it_states(extracted, tmp_path: Path):
    model, engram = extracted
    loaded = mt.load(mt.save(engram, tmp_path / "small", model=model), model=model)
    assert list(loaded) == list(engram)
    for name, trace in engram.items():
        error = float((loaded[name].dense() - trace.dense()).norm() / trace.dense().norm())
        assert error <= loaded.evidence[name]["rounding"] * 1.01 + 1e-6
        assert error < 1e-3


def test_the_small_file_is_small_and_siblings_share(extracted, tmp_path: Path):
    model, engram = extracted
    engram = mt.Engram(engram.traces, manifest=engram.manifest, rows=engram.rows)
    small = mt.save(engram, tmp_path / "small", model=model).stat().st_size
    assert small < 0.5 * mt.save(engram, tmp_path / "large").stat().st_size
    loaded = mt.load(tmp_path / "small", model=model)
    names = [name for name in loaded if name.endswith(("0.self_attn.q_proj", "0.self_attn.k_proj"))]
    assert loaded[names[0]].right is loaded[names[1]].right
    assert loaded.rows[names[0]] is loaded.rows[names[1]]


def test_a_loaded_engram_can_be_saved_small_again(extracted, tmp_path: Path):
    model, engram = extracted
    once = mt.load(mt.save(engram, tmp_path / "once", model=model), model=model)
    twice = mt.load(mt.save(once, tmp_path / "twice", model=model), model=model)
    for name, trace in once.items():
        torch.testing.assert_close(twice[name].dense(), trace.dense(), rtol=1e-4, atol=1e-7)


def test_the_network_must_be_given_and_be_the_same(extracted, tmp_path: Path, tiny_llama):
    model, engram = extracted
    path = mt.save(engram, tmp_path / "small", model=model)
    with pytest.raises(ArtifactError, match=r"mt\.load\(path, model=model\)"):
        mt.load(path)
    other = tiny_llama(seed=1, hidden_size=64, intermediate_size=96)
    with pytest.raises(ArtifactError, match="whose weights the engram was saved with"):
        mt.load(path, model=other)
    with pytest.raises(ValueError, match="it was extracted from"):
        mt.save(engram, tmp_path / "wrong", model=other)


def test_engrams_without_rows_are_refused_with_the_reason(extracted, tmp_path: Path):
    model, engram = extracted
    for changed in (engram * 2.0, engram + engram, engram.truncated(rank=2), engram.to(torch.float64)):
        assert not changed.rows
        with pytest.raises(TypeError, match="save them without a model"):
            mt.save(changed, tmp_path / "no", model=model)


def test_sites_with_more_rows_than_outputs_keep_their_factors(tmp_path: Path):
    model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4))
    x = torch.randn(80, 8, generator=torch.Generator().manual_seed(0))
    parts = [mt.collect(model, [part]) for part in (x[:6], x[6:])]
    engram = mt.engram(model, target=parts[0], reference=parts[1])
    assert list(engram.rows) == ["0"]
    loaded = mt.load(mt.save(engram, tmp_path / "mixed", model=model), model=model)
    assert torch.equal(loaded["2"].left, engram["2"].left)
    torch.testing.assert_close(loaded["0"].dense(), engram["0"].dense(), rtol=1e-3, atol=1e-4)
