"""Whole numbers packed into bytes at the width that they need: gates eight a byte, switches of nine cells two a byte.

Cost: an int64 a bit while packing.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def pack_bits(values: Tensor, width: int) -> Tensor:
    """Write whole numbers below `2**width` one after the other, `width` bits each, into bytes."""
    places = torch.arange(width, device=values.device)
    bits = (values.flatten().long()[:, None] >> places & 1).flatten()
    bits = torch.cat([bits, bits.new_zeros(-len(bits) % 8)]).view(-1, 8)
    return (bits << torch.arange(8, device=bits.device)).sum(1).to(torch.uint8)


def unpack_bits(stored: Tensor, width: int, shape: Sequence[int]) -> Tensor:
    """Undo `pack_bits`; int64."""
    bits = (stored.long()[:, None] >> torch.arange(8, device=stored.device) & 1).flatten()
    count = math.prod(shape)
    rows = bits[: count * width].view(count, width)
    return (rows << torch.arange(width, device=stored.device)).sum(1).view(list(shape))
