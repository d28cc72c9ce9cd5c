"""A class of digits as a memory, and tiny traces whose every number is known."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.adapters.linear import weight_of
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.trace import Engram
from mnemotrace.organisms.digits import Digits
from mnemotrace.stats.moments import Statistics

F64 = torch.float64
RCOND = 1e-3
Data = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Case:
    """A class to forget: statistics of it and of the rest, unseen data of both, and its engram as published."""

    model: nn.Module
    target: Statistics
    reference: Statistics
    forget: Data
    keep: Data
    lesson: Data
    engram: Engram


def cases(digits: Digits, label: int) -> Case:
    def split(inputs: Tensor, labels: Tensor) -> tuple[Data, Data]:
        mine = labels == label
        return (inputs[mine], labels[mine]), (inputs[~mine], labels[~mine])

    lesson, rest = split(digits.train_inputs, digits.train_labels)
    forget, keep = split(digits.test_inputs, digits.test_labels)
    target, reference = (mt.collect(digits.model, [data[0]], dtype=F64) for data in (lesson, rest))
    engram = mt.engram(digits.model, target=target, reference=reference, rcond=RCOND)
    return Case(digits.model, target, reference, forget, keep, lesson, engram)


@torch.no_grad()
def right(model: nn.Module, data: Data) -> Tensor:
    """1 where the answer is right, else 0."""
    return (model(data[0]).argmax(1) == data[1]).float()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trace_of(model: nn.Module, select: list[str] | None = None) -> Engram:
    """The trace that is the whole weight, at every site or at some."""
    sites = mt.sites(model, select)
    return Engram({name: LowRank(site, torch.eye(site.o), weight_of(model, site)) for name, site in sites.items()})


def built(make: type[nn.Module] | object, *args: object, seed: int = 0, **options: object) -> nn.Module:
    """A module with weights from a seed, in evaluation, without touching the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(*args, **options).eval()
