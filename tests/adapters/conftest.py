"""Record a call of a network: what every site read, as given and as rows, and what the site makes of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemotrace.adapters.hooks import record
from mnemotrace.adapters.rows import Tokens, Unfold
from mnemotrace.core.site import Site


@dataclass
class Recording:
    """What was read during one call, by site name, in the order of the reads."""

    model: nn.Module
    sites: Mapping[str, Site]
    output: Any = None
    sources: dict[str, list[Tensor]] = field(default_factory=dict)
    rows: dict[str, list[Tensor]] = field(default_factory=dict)
    tokens: dict[str, list[Tokens | None]] = field(default_factory=dict)

    def receive(self, site: Site, source: Tensor, unfold: Unfold, tokens: Tokens | None = None, /) -> None:
        """Keep a read."""
        self.sources.setdefault(site.name, []).append(source)
        self.rows.setdefault(site.name, []).append(unfold(source))
        self.tokens.setdefault(site.name, []).append(tokens)

    def made(self, name: str) -> Tensor:
        """The first rows of a site times its view, plus its bias: what the site must have given."""
        site = self.sites[name]
        product = self.rows[name][0] @ site.view(self.model.get_parameter(site.weight)).T
        return product if site.bias is None else product + site.bias_view(self.model.get_parameter(site.bias))


@pytest.fixture
def recorded() -> Callable[..., Recording]:
    """Call a network without gradients and record it: `recorded(model, sites, *args, **kwargs)`."""

    def call(model: nn.Module, sites: Mapping[str, Site], *args: Any, **kwargs: Any) -> Recording:
        recording = Recording(model, sites)
        with torch.no_grad(), record(model, sites, recording.receive):
            recording.output = model(*args, **kwargs)
        return recording

    return call


@pytest.fixture(autouse=True)
def _nothing_left_behind():
    """No test may leave a function mode or a switched-off fast path behind."""
    yield
    assert torch._C._len_torch_function_stack() == 0
    assert torch.backends.mha.get_fastpath_enabled()
