"""A named place in a network where a memory can sit: one linear map, always seen as `(o, d)`.

Networks store the same map in many ways: `nn.Linear` as `(o, d)`, Hugging Face `Conv1D` as `(d, o)`, a
convolution as `(o, c, kh, kw)`, packed attention projections as a block of rows, fused experts as a slice of a
three-dimensional parameter. A `Site` remembers how, and `Site.view` shows the stored tensor as `(o, d)` without a
copy, so that no method above this file knows about storage.

Axis legend of the package: `b` batch, `t` token, `d` in, `o` out, `n` patterns (rows), `k` classes, `r` rank,
`c h w` image.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from mnemotrace.core.errors import SelectionError

Selection = str | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Site:
    """One linear map `y = W x + b` of a network.

    Attributes:
        name: unique in its network; the module's name, with `[part]` added when a parameter holds several maps.
        weight: name of the parameter that holds `W`.
        o: output width.
        d: input width, without the bias border.
        bias: name of the parameter that holds `b`, or None.
        module: name of the module whose input is `x`.
        kind: how the module reads its input: `linear`, `convolution`, `attention` or `expert`.
        part: what of the stored tensor's first axis belongs to this map: all (None), one index (an expert) or
            rows `(start, stop)`.
        transposed: True when the stored matrix is `(d, o)`.
        bias_part: what of the stored bias belongs to this map, where that differs from `part`.
        tied: other names under which the network holds the same weight tensor. Editing it changes all of them.
        readers: other modules that apply the same weight; their inputs count towards this site's moments.
    """

    name: str
    weight: str
    o: int
    d: int
    bias: str | None = None
    module: str = ""
    kind: str = "linear"
    part: int | tuple[int, int] | None = None
    transposed: bool = False
    bias_part: int | tuple[int, int] | None = None
    tied: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Columns of a bias-absorbed change: `d + 1` with a bias, else `d`."""
        return self.d + (self.bias is not None)

    def view(self, stored: Tensor) -> Tensor:
        """Show a stored weight as `(o, d)`; writing to the view writes to the tensor, which must be contiguous."""
        matrix = _part(stored, self.part).flatten(1)
        return matrix.T if self.transposed else matrix

    def bias_view(self, stored: Tensor) -> Tensor:
        """Show this map's part of a stored bias as `(o,)`."""
        return _part(stored, self.part if self.bias_part is None else self.bias_part)

    def to_json(self) -> dict[str, Any]:
        """Return the site as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Site":
        """Rebuild a site from `to_json`."""
        pairs: dict[str, Any] = {name: tuple(values[name]) for name in values if type(values[name]) is list}
        return cls(**{**values, **pairs})


def _part(stored: Tensor, part: int | tuple[int, int] | None) -> Tensor:
    if part is None:
        return stored
    return stored[part] if isinstance(part, int) else stored[slice(*part)]


def select_names(names: Iterable[str], select: Selection = None, layers: Iterable[int] | None = None) -> list[str]:
    """Choose names the way PEFT chooses target modules.

    Args:
        names: what exists.
        select: None for all; a list whose entries match whole names or dotted suffixes (`"mlp.c_proj"`); a string
            taken as a regular expression that must match the whole name.
        layers: indices of layers to keep: the first whole number between dots in a name.

    Raises:
        SelectionError: nothing matches; the message lists what exists.
    """
    names = list(names)
    if isinstance(select, str):
        chosen = [name for name in names if re.fullmatch(select, name)]
    elif select is not None:
        chosen = [name for name in names if any(_has_suffix(name, suffix) for suffix in select)]
    else:
        chosen = names
    if layers is not None:
        wanted = set(layers)
        chosen = [name for name in chosen if layer_of(name) in wanted]
    if not chosen:
        raise SelectionError(
            f"got select={select!r}, layers={layers!r}, which match none of {len(names)} names; "
            f"expected a suffix list, a regular expression or layer indices; choose among {_listing(names)}"
        )
    return chosen


def layer_of(name: str) -> int | None:
    """Return the layer index in a module name, None when it has none."""
    found = re.search(r"(?:^|\.)(\d+)(?:\.|$|\[)", name)
    return int(found.group(1)) if found else None


def _has_suffix(name: str, suffix: str) -> bool:
    bare = name.partition("[")[0]
    return any(candidate == suffix or candidate.endswith("." + suffix) for candidate in (name, bare))


def _listing(names: list[str], limit: int = 12) -> str:
    shown = ", ".join(names[:limit])
    return shown + (f", ... ({len(names) - limit} more)" if len(names) > limit else "")
