"""Processes that each saw a share of the data agree on what one process would have seen."""

import datetime
import json
import os
import sys
import traceback
from pathlib import Path

import pytest
import torch
from torch import Tensor, multiprocessing, nn
from torch import distributed as dist

import mnemotrace as mt
from mnemotrace.stats.distributed import reduce

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo"
)


class Heads(nn.Module):
    """Two maps share an input of width 8; a third reads one of width 5."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.q, self.k, self.o = nn.Linear(8, 5), nn.Linear(8, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(torch.tanh(self.q(x) + self.k(x)))


def share(rank: int, counts: tuple[int, int]) -> Tensor:
    rows = torch.randn(sum(counts), 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return rows.split(counts)[rank]


def collected(rank: int, counts: tuple[int, int], seed: int = 0, select: list[str] | None = None) -> mt.Statistics:
    model = Heads(seed).double()
    return mt.collect(model, [share(rank, counts)], sites=mt.sites(model, select), dtype=torch.float64)


def _totals(rank: int, folder: Path) -> None:
    for counts in COUNTS:
        total = reduce(collected(rank, counts))
        mt.save(total, folder / f"{counts[0]}-{counts[1]}.{rank}")
        assert total["q"] is total["k"]


def _mixed(rank: int, folder: Path) -> None:
    # One process has a matrix in float64 and one has rows in float32; only one of them shares.
    statistics = collected(rank, (20, 2))
    if rank:
        rows = {name: mt.Moments.of(statistics[name].rows.float()) for name in statistics}
        statistics = mt.Statistics(rows, statistics.sites, statistics.manifest)
    mt.save(reduce(statistics), folder / f"mixed.{rank}")


def _misfits(rank: int, folder: Path) -> None:
    messages = []
    for statistics in (
        collected(rank, (4, 4), select=["q", "k"] if rank else None),
        collected(rank, (4, 4), seed=rank),
    ):
        try:
            reduce(statistics)
        except ValueError as error:
            messages.append(str(error))
    (folder / f"misfits.{rank}").write_text(json.dumps(messages))


COUNTS = [(1, 2), (3, 4), (6, 2), (20, 1), (40, 30)]
CASES = {"totals": _totals, "mixed": _mixed, "misfits": _misfits}


def _process(rank: int, folder: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", datetime.timedelta(seconds=60), world_size=2, rank=rank)
    for name, case in CASES.items():
        try:
            case(rank, Path(folder))
        except Exception:
            (Path(folder) / f"{name}.{rank}.error").write_text(traceback.format_exc())
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run every case in two processes, once; what they found lies in the folder."""
    place = tmp_path_factory.mktemp("processes")
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    multiprocessing.spawn(_process, (str(place), loopback), nprocs=2)
    errors = [path.read_text() for path in place.glob("*.error")]
    assert not errors, errors[0]
    return place


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_two_processes_find_what_one_would(folder: Path, counts: tuple[int, int]) -> None:
    model = Heads().double()
    parts = [share(rank, counts) for rank in (0, 1)]
    expected = mt.collect(model, parts, dtype=torch.float64)
    for rank in (0, 1):
        found = mt.load(folder / f"{counts[0]}-{counts[1]}.{rank}")
        assert list(found) == list(expected)
        assert found["q"] is found["k"]
        assert found.manifest == expected.manifest
        for name, moments in expected.items():
            assert found[name].n == moments.n == sum(counts)
            assert (found[name].rows is None) == (moments.rows is None)
            torch.testing.assert_close(found[name].matrix(bias=True), moments.matrix(bias=True), rtol=0, atol=1e-12)
            if moments.rows is not None:
                torch.testing.assert_close(found[name].rows, moments.rows, rtol=0, atol=1e-14)


def test_every_process_has_the_same_bits(folder: Path) -> None:
    for counts in COUNTS:
        first, second = (mt.load(folder / f"{counts[0]}-{counts[1]}.{rank}") for rank in (0, 1))
        assert all(torch.equal(first[name].matrix(bias=True), second[name].matrix(bias=True)) for name in first)


def test_rows_and_matrices_of_two_types_add(folder: Path) -> None:
    expected = mt.collect(Heads().double(), [share(0, (20, 2)), share(1, (20, 2))], dtype=torch.float64)
    for rank in (0, 1):
        found = mt.load(folder / f"mixed.{rank}")
        assert found["q"].second.dtype == torch.float64
        for name, moments in expected.items():
            torch.testing.assert_close(found[name].matrix(), moments.matrix(), rtol=1e-6, atol=1e-6)


def test_other_sites_and_other_networks_are_refused_in_every_process(folder: Path) -> None:
    for rank in (0, 1):
        sites, networks = json.loads((folder / f"misfits.{rank}").read_text())
        assert "got statistics in process 1 that do not match process 0 (sites ['o'] in only one)" in sites
        assert "networks {'architecture'" in networks
        assert "; expected one network and the same sites everywhere; pass the same `sites`" in networks


def test_without_a_process_group_there_is_an_error() -> None:
    with pytest.raises(
        ValueError, match="got no process group; expected an initialised one; call torch.distributed.init"
    ):
        reduce(collected(0, (4, 4)))
