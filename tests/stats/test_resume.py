"""A collection that was killed goes on where it stopped and ends with the same bits."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.errors import ArtifactError
from mnemotrace.stats import accumulate

SIZES = [3, 5, 0, 1, 12, 2, 7, 4]


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 3))


def data() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 6, generator=generator) for n in SIZES]


def killed_after(batches: list[Tensor], count: int) -> Iterator[Tensor]:
    yield from batches[:count]
    raise KeyboardInterrupt


def identical(first: mt.Statistics, second: mt.Statistics) -> bool:
    a, b = first.pack(), second.pack()
    return (
        a.header == b.header
        and a.tensors.keys() == b.tensors.keys()
        and all(torch.equal(tensor, b.tensors[name]) for name, tensor in a.tensors.items())
    )


@pytest.fixture(params=[1, 8, 2048])
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many rows wait before they are folded in: states with and without a buffer and a sum."""
    monkeypatch.setattr(accumulate, "ROWS", request.param)
    return request.param


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("count", range(len(SIZES) + 1))
def test_resuming_after_any_batch_gives_the_same_bits(count: int, every: int, waiting: int, tmp_path: Path) -> None:
    model, batches, checkpoint = network(), data(), tmp_path / "run"
    expected = mt.collect(model, batches)
    with pytest.raises(KeyboardInterrupt):
        mt.collect(model, killed_after(batches, count), checkpoint=checkpoint, every=every)
    assert checkpoint.exists() == (count >= every)

    seen: list[int] = []
    found = mt.collect(
        model, iter(batches), checkpoint=checkpoint, every=every, progress=lambda done, *_: seen.append(done)
    )

    assert identical(found, expected)
    assert seen == list(range(count // every * every + 1, len(SIZES) + 1))
    assert not list(tmp_path.iterdir())


def test_being_killed_twice_is_no_worse(tmp_path: Path, waiting: int) -> None:
    model, batches, checkpoint = network(), data(), tmp_path / "run"
    for count in (2, 5):
        with pytest.raises(KeyboardInterrupt):
            mt.collect(model, killed_after(batches, count), checkpoint=checkpoint, every=1)
    assert identical(mt.collect(model, batches, checkpoint=checkpoint, every=1), mt.collect(model, batches))


KILLED = """
import os, signal, sys, torch
torch.set_num_threads(1)
sys.path[:0] = [{here!r}, {source!r}]
import test_resume
def loader():
    for i, batch in enumerate(test_resume.data()):
        if i == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
import mnemotrace as mt
mt.collect(test_resume.network(), loader(), checkpoint={checkpoint!r}, every=2)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_resuming_after_a_kill_of_the_process_gives_the_same_bits(tmp_path: Path) -> None:
    here, checkpoint = Path(__file__).parent, tmp_path / "run"
    source = str(Path(mt.__file__).parents[1])
    code = KILLED.format(here=str(here), source=source, checkpoint=str(checkpoint))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]

    seen: list[int] = []
    found = mt.collect(network(), data(), checkpoint=checkpoint, progress=lambda done, *_: seen.append(done))
    assert seen[0] == 5
    assert identical(found, mt.collect(network(), data()))


def _interrupted(checkpoint: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        mt.collect(network(), killed_after(data(), 4), checkpoint=checkpoint, every=2)
    return checkpoint


def test_a_checkpoint_of_another_run_is_refused_and_kept(tmp_path: Path) -> None:
    checkpoint = _interrupted(tmp_path / "run")
    before = checkpoint.read_bytes()
    model = network()
    others = {
        "model": lambda: mt.collect(network(1), data(), checkpoint=checkpoint),
        "sites": lambda: mt.collect(model, data(), sites=mt.sites(model, ["0"]), checkpoint=checkpoint),
        "dtype": lambda: mt.collect(model, data(), dtype=torch.float64, checkpoint=checkpoint),
    }
    for collect in others.values():
        with pytest.raises(ValueError, match="of another run; expected the same model, sites and dtype; delete it"):
            collect()
    assert checkpoint.read_bytes() == before


def test_fewer_batches_than_the_checkpoint_holds_are_refused(tmp_path: Path) -> None:
    checkpoint = _interrupted(tmp_path / "run")
    with pytest.raises(ValueError, match="got 3 batches; expected at least the 4 of checkpoint .*; give the same data"):
        mt.collect(network(), data()[:3], checkpoint=checkpoint)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    statistics = mt.collect(network(), data())
    with pytest.raises(ArtifactError, match="of kind 'statistics'; expected 'collection'"):
        mt.collect(network(), data(), checkpoint=mt.save(statistics, tmp_path / "x"))
    (tmp_path / "y").write_bytes(b"half a file")
    with pytest.raises(ArtifactError, match="not readable as safetensors"):
        mt.collect(network(), data(), checkpoint=tmp_path / "y")


def test_shared_inputs_stay_shared_after_resuming(tiny_llama, tokens: Tensor, tmp_path: Path) -> None:
    model, batches = tiny_llama(), [{"input_ids": tokens}] * 3
    checkpoint = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        mt.collect(model, killed_after(batches, 2), checkpoint=checkpoint, every=1)
    found = mt.collect(model, batches, checkpoint=checkpoint)
    assert identical(found, mt.collect(model, batches))
    assert found["model.layers.1.mlp.gate_proj"] is found["model.layers.1.mlp.up_proj"]
