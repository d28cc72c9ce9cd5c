"""Activations on disk are those of the network, row for row; batches are all rows once, in bounded memory."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemotrace.core.directory import MARKER
from mnemotrace.core.errors import ArtifactError, NonFiniteError, SelectionError
from mnemotrace.stats.activations import ActivationCache
from mnemotrace.stats.shards import Writer


def model() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)).eval()


def rows(n: int = 20, *positions: int, seed: int = 0) -> Tensor:
    return torch.randn(n, *positions, 5, generator=torch.Generator().manual_seed(seed))


def write(path: Path, x: Tensor | None = None, points: tuple[str, ...] = ("0", "2"), **more: Any) -> ActivationCache:
    batches = (rows() if x is None else x).split(7)
    return ActivationCache.write(model(), batches, points, path=path / "cache", **({"dtype": torch.float32} | more))


def test_a_cache_holds_what_modules_give_and_are_given(tmp_path: Path) -> None:
    x, net = rows(), model()
    cache = write(tmp_path, x, ("0", "2", "2.input", "1.input", ""), shard=150)
    first, last = (torch.cat([part(rows) for rows in x.split(7)]).detach() for part in (net[0], net))
    assert len(cache.shards) > 2 and len(cache) == cache.samples == 20
    assert torch.equal(cache.point("0").rows(), first) and torch.equal(cache.point("1.input").rows(), first)
    assert torch.equal(cache.point("2.input").rows(3, 17), first.relu()[3:17])
    assert torch.equal(cache.point("2").rows(), last) and torch.equal(cache.point("").rows(), last)
    again = ActivationCache.open(tmp_path / "cache")
    assert torch.equal(again.point("0").rows(), first) and again.manifest["base"] == cache.manifest["base"]


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    net = model().train()
    ActivationCache.write(net, [rows()], ["0", "2.input"], path=tmp_path / "cache")
    assert net.training and not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("masked", [False, True])
def test_rows_of_sequences_know_their_sample_and_position(tmp_path: Path, masked: bool) -> None:
    x = rows(9, 4)
    keep = torch.rand(9, 4, generator=torch.Generator().manual_seed(1)) > 0.4 if masked else torch.ones(9, 4).bool()
    marks = iter(keep.split(7))
    cache = write(tmp_path, x, mask=(lambda _: next(marks)) if masked else None)
    assert torch.equal(cache.index(), keep.nonzero())
    torch.testing.assert_close(cache.point("2").rows(), model()(x).detach()[keep])
    assert torch.equal(cache.index(2, 5), keep.nonzero()[2:5])


def test_the_attention_mask_of_a_batch_is_taken(tmp_path: Path) -> None:
    batch = {"input": rows(3, 4), "attention_mask": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])}
    cache = ActivationCache.write(
        model(), [batch], ["0"], path=tmp_path / "c", run=lambda net, given: net(given["input"])
    )
    assert len(cache) == 7 and cache.dtype == torch.float16


def test_a_place_of_an_image_is_a_row(tmp_path: Path) -> None:
    net, x = nn.Conv2d(2, 4, 3), torch.randn(5, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    cache = ActivationCache.write(net, x.split(2), [""], path=tmp_path / "c", dtype=torch.float32)
    torch.testing.assert_close(cache.point("").rows(), net(x).detach().permute(0, 2, 3, 1).reshape(-1, 4))
    assert cache.index()[-1].tolist() == [4, 19]


@pytest.mark.parametrize("buffer", [1, 400, 10**6])
def test_batches_are_all_rows_once_shuffled_and_points_stay_together(
    tmp_path: Path, buffer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mnemotrace.stats.activations._BLOCK", 3 * 36
    )  # three rows, so that 400 bytes hold three blocks
    cache = write(tmp_path, rows(100), shard=500)
    generator = torch.Generator().manual_seed(3)
    first = list(cache.point("0").batches(8, beside=["2"], generator=generator, buffer=buffer))
    second = list(cache.point("0").batches(8, beside=["2"], generator=generator, buffer=buffer))
    assert [len(x) for x, _ in first] == [8] * 12 + [4]
    whole = torch.cat([x for x, _ in first])
    known, order = cache.point("0").rows(), torch.cdist(whole, cache.point("0").rows()).argmin(1)
    assert torch.equal(whole, known[order]) and order.unique().numel() == 100
    assert not torch.equal(order, torch.arange(100))
    assert torch.equal(torch.cat([y for _, y in first]), cache.point("2").rows()[order])
    assert not torch.equal(whole, torch.cat([x for x, _ in second]))


def test_a_point_can_be_read_again_and_gives_the_same(tmp_path: Path) -> None:
    point = write(tmp_path).point("0")
    assert torch.equal(torch.cat(list(point)), torch.cat(list(point))) and (len(point), point.width) == (20, 6)


def test_half_precision_is_near_and_halves_the_disk(tmp_path: Path) -> None:
    whole, half = write(tmp_path / "a"), write(tmp_path / "b", dtype=torch.float16)
    torch.testing.assert_close(half.point("0").rows(), whole.point("0").rows(), rtol=1e-3, atol=1e-3)
    sizes = [(cache.path / "0-00000.bin").stat().st_size for cache in (whole, half)]
    assert sizes == [20 * 6 * 4, 20 * 6 * 2]


def test_nothing_is_left_of_a_cache_that_failed(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"got 1.* at 0; expected at most 65504.*dtype=torch.float32"):
        write(tmp_path, 1e5 * model()[0].weight.detach().sign(), ("0",), dtype=torch.float16)
    with pytest.raises(NonFiniteError, match=r"non-finite of .* entries in 0, batch 1"):
        write(tmp_path, torch.full((3, 5), torch.nan))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_cached_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"got dtype=torch.int8 and shard=.*; expected one of float16"):
        write(tmp_path, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"got points=\[\]; expected at least one name of a module, each once"):
        write(tmp_path, points=())
    with pytest.raises(ValueError, match=r"got no row; expected at least one"):
        write(tmp_path, mask=lambda x: torch.zeros(len(x)).bool())
    with pytest.raises(ValueError, match=r"got no row; expected at least one"):
        ActivationCache.write(model(), [], ["0"], path=tmp_path / "cache")
    with pytest.raises(TypeError, match=r"got a mask of torch.int64; expected a bool tensor"):
        write(tmp_path, mask=lambda x: torch.zeros(len(x)).long())
    with pytest.raises(SelectionError, match=r"got site='9', which is no module"):
        write(tmp_path, points=("9",))
    with pytest.raises(SelectionError, match=r"got site='9', which is no module"):
        write(tmp_path, points=("9.input",))
    net = nn.Sequential(nn.Conv1d(2, 3, 1), nn.AdaptiveAvgPool1d(2))
    with pytest.raises(ValueError, match=r"expected points with the same positions, so that rows line up"):
        ActivationCache.write(net, [torch.ones(4, 2, 6)], ["0", "1"], path=tmp_path / "cache")
    with pytest.raises(ValueError, match=r"got points of widths {'': 3} after {'': 2}; expected the same"):
        ActivationCache.write(nn.Identity(), [torch.ones(4, 2), torch.ones(4, 3)], [""], path=tmp_path / "cache")
    with pytest.raises(FileExistsError, match=r"which exists; expected no or an empty directory"):
        write(tmp_path)
        write(tmp_path)
    assert len(write(tmp_path, overwrite=True)) == 20


def test_a_directory_that_is_no_cache_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"which has no mnemotrace.json; expected what"):
        ActivationCache.open(tmp_path)
    cache = write(tmp_path)
    with pytest.raises(SelectionError, match=r"got point '7'; expected one of '0', '2'"):
        cache.point("7")
    (cache.path / "1-00000.bin").write_bytes(b"123")
    with pytest.raises(ArtifactError, match=r"1-00000.bin missing or of another size; expected 240 bytes"):
        ActivationCache.open(cache.path)
    with pytest.raises(ArtifactError, match=r"got the end of .*1-00000.bin after 3 of 240 bytes"):
        cache.point("2").rows()
    (cache.path / MARKER).write_text(json.dumps({"kind": "edit"}))
    with pytest.raises(ArtifactError, match=r"of kind 'edit'; expected 'activations'"):
        ActivationCache.open(cache.path)


def test_shards_are_full_before_the_next_begins(tmp_path: Path) -> None:
    writer = Writer(tmp_path, [""], torch.float32, 3 * 4)
    for n in (2, 5, 1):
        writer.add({"": torch.ones(n, 1)}, torch.zeros(n, 2).long())
    writer.close()
    assert writer.counts == [3, 3, 2] and sorted(p.name for p in tmp_path.glob("index*"))[-1] == "index-00002.bin"
