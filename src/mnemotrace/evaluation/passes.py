"""What each example gave a site to read during one pass of a network.

A pass may read a site more than once (layers that share their weights) or flatten tokens into rows (routers, shared
experts, OPT). Here rows always come as `(b, positions, d)`; sites that cannot be seen so, routed experts above all, do
not come at all.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating, record
from mnemotrace.adapters.rows import Unfold
from mnemotrace.core.site import Site


@dataclass(eq=False)
class Pass:
    """What the network was called with.

    Attributes:
        leading: first two sizes of its first tensor, `(b, t)` for tokens; empty before the first pass.
        mask: `(b, t)`, not 0 where there is a token; None when the call had none.
    """

    leading: tuple[int, ...] = ()
    mask: Tensor | None = None

    def keep(self, rows: Tensor) -> Tensor | None:
        """Return the mask as `(b, positions, 1)` when it speaks of these rows."""
        if self.mask is None or rows.shape[:2] != self.mask.shape:
            return None
        return self.mask.to(rows.device).bool()[..., None]

    def rows(self, source: Tensor) -> Tensor | None:
        """Return `(b, positions, d)`; None when rows do not belong to examples in order."""
        if len(self.leading) == 2 and source.ndim == 2 and len(source) == self.leading[0] * self.leading[1]:
            return source.unflatten(0, self.leading)
        if self.leading and len(source) != self.leading[0]:
            return None
        return source[:, None] if source.ndim == 2 else source.flatten(1, -2)


@contextmanager
def by_example(
    model: nn.Module,
    sites: Mapping[str, Site],
    receive: Callable[[str, Tensor, Pass], None],
    begin: Callable[[], None],
) -> Generator[None, None, None]:
    """Call `receive(name, rows, pass)` whenever a site reads, and `begin()` before each pass.

    A pass is a call of the model or of the `base_model` inside it, which encoders are asked through. Dropout and
    gradients are off inside the block.
    """
    current = Pass()

    def start(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        begin()
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        mask = kwargs.get("attention_mask")
        current.leading = tuple(tensors[0].shape[:2]) if tensors else ()
        current.mask = mask if isinstance(mask, Tensor) and mask.ndim == 2 else None

    def read(site: Site, source: Tensor, unfold: Unfold, *_: Any) -> None:
        rows = current.rows(unfold(source).float())
        if rows is not None:
            receive(site.name, rows, current)

    trunk = getattr(model, "base_model", model)
    with evaluating(model), ExitStack() as stack:
        for module in dict.fromkeys((model, trunk)):
            stack.callback(module.register_forward_pre_hook(start, with_kwargs=True).remove)
        stack.enter_context(record(model, {n: s for n, s in sites.items() if s.kind != "expert"}, read))
        yield
