"""A network that stores linear maps in every layout, and random edits of it."""

import torch
from torch import Tensor, nn

from mnemotrace.core.edit import Change, Dense, Edit, Sparse
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site

O, D = 4, 3  # noqa: E741

LAYOUTS = {
    "linear": ((O, D), Site("linear", "linear", O, D, "linear_bias")),
    "transposed": ((D, O), Site("transposed", "transposed", O, D, "transposed_bias", transposed=True)),
    "convolution": ((O, 2, 2, 3), Site("convolution", "convolution", O, 12, kind="convolution")),
    "group": ((2 * O, D, 1), Site("group[1]", "group", O, D, "group_bias", kind="convolution", part=(O, 2 * O))),
    "packed": ((3 * O, D), Site("packed[key]", "packed", O, D, "packed_bias", kind="attention", part=(O, 2 * O))),
    "expert": ((2, O, D), Site("expert[1]", "expert", O, D, kind="expert", part=1)),
    "expert transposed": (
        (2, D, O),
        Site("turned[0]", "turned", O, D, "turned_bias", kind="expert", part=0, transposed=True),
    ),
}
BIASES = {
    "linear_bias": (O,),
    "transposed_bias": (O,),
    "group_bias": (2 * O,),
    "packed_bias": (3 * O,),
    "turned_bias": (2, O),
}


class Zoo(nn.Module):
    """Parameters in every layout; it computes nothing."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shapes = {site.weight: shape for shape, site in LAYOUTS.values()} | BIASES
        for name, shape in shapes.items():
            values = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
            values.view(-1)[0] = -0.0
            values.view(-1)[1] = torch.finfo(dtype).tiny
            self.register_parameter(name, nn.Parameter(values))


def random_change(model: nn.Module, kind: str, generator: torch.Generator, scale: float = 1.0) -> Change:
    """Draw a change of the zoo: `dense`, `sparse`, or low-rank at a layout's site."""

    def draw(*shape: int) -> Tensor:
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    if kind in LAYOUTS:
        site = LAYOUTS[kind][1]
        rank = int(torch.randint(1, 4, (), generator=generator))
        width = site.width if bool(torch.rand((), generator=generator) < 0.5) else site.d
        return LowRank(site, draw(site.o, rank), draw(rank, width))
    names = sorted(name for name, _ in model.named_parameters())
    name = names[int(torch.randint(len(names), (), generator=generator))]
    shape = tuple(model.get_parameter(name).shape)
    if kind == "dense":
        return Dense(name, draw(*shape))
    size = model.get_parameter(name).numel()
    count = int(torch.randint(1, size + 1, (), generator=generator))
    return Sparse(name, shape, torch.randperm(size, generator=generator)[:count], draw(count))


KINDS = [*LAYOUTS, "dense", "sparse"]


def dense_edit(model: nn.Module, edit: Edit) -> dict[str, Tensor]:
    """What an edit adds to every parameter, by plain indexing, in float64."""
    total = {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in model.named_parameters()}
    for change in edit.changes:
        if isinstance(change, Dense):
            total[change.parameter] += change.values.double()
        elif isinstance(change, Sparse):
            for index, value in zip(change.indices.tolist(), change.values.double(), strict=True):
                total[change.parameter].view(-1)[index] += value
        else:
            site, product = change.site, change.left.double() @ change.right.double()
            weight = product[:, : site.d].T if site.transposed else product[:, : site.d]
            part = slice(*site.part) if isinstance(site.part, tuple) else site.part
            where = ... if part is None else part
            total[site.weight][where] += weight.reshape(total[site.weight][where].shape)
            if product.shape[1] > site.d:
                total[site.bias][where] += product[:, -1]
    return total


def bits(model: nn.Module) -> dict[str, Tensor]:
    """The exact bits of every parameter."""
    sizes = {2: torch.int16, 4: torch.int32, 8: torch.int64, 1: torch.uint8}
    return {n: p.detach().clone().view(sizes[p.element_size()]) for n, p in model.named_parameters()}


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
