"""Where an edit acts: the linear maps that it changes, and the parameters that belong to none (norms, embeddings).

A change of a whole stored parameter, sparse or dense, is seen through the sites of the network, so that one and the
same edit acts at the same maps in whichever form it is written down. Forming a sparse change costs its parameter's
size, once a batch; nothing is kept.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mnemotrace.adapters.linear import sites
from mnemotrace.core.edit import Change, Dense, Edit
from mnemotrace.core.errors import SelectionError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site
from mnemotrace.core.trace import Engram
from mnemotrace.forgetting.erase import null


@dataclass(frozen=True, eq=False)
class Map:
    """All that an edit changes at one linear map.

    Attributes:
        site: of the network.
        changes: of its weight, and of its bias where there are any; at least one of the weight.
    """

    site: Site
    changes: tuple[Change, ...]

    @property
    def has_bias(self) -> bool:
        """Whether the bias changes too."""
        return any(c.has_bias if isinstance(c, LowRank) else c.parameter == self.site.bias for c in self.changes)

    def respond(self, rows: Tensor) -> Tensor:
        """Return what the change adds to the map's output.

        Args:
            rows: `(..., d)`, or `(..., d + 1)` with the input of the bias last where there is a bias.

        Returns:
            `(..., o)`.
        """
        total: Tensor | None = None
        for change in self.changes:
            added = self._added(change, rows)
            total = added if total is None else total + added
        assert total is not None
        return total

    def _added(self, change: Change, rows: Tensor) -> Tensor:
        if isinstance(change, LowRank):
            return (rows[..., : change.right.shape[1]] @ change.right.to(rows).T) @ change.left.to(rows).T
        values = change.dense().to(rows)
        if change.parameter == self.site.weight:
            return rows[..., : self.site.d] @ self.site.view(values).T
        return rows[..., self.site.d :] * self.site.bias_view(values)


def maps_of(model: nn.Module, edit: Edit) -> dict[str, Map]:
    """Find the linear maps whose weight an edit changes, by name of the site."""
    lowrank = [change for change in edit.changes if isinstance(change, LowRank)]
    stored = [change for change in edit.changes if not isinstance(change, LowRank)]
    places = {(change.site.weight, change.site.part): change.site for change in lowrank}
    for site in _sites(model) if stored else ():
        for change in stored:
            if change.parameter in (site.weight, *site.tied) and bool(site.view(change.dense()).any()):
                places.setdefault((change.parameter, site.part), replace(site, weight=change.parameter))
    found: dict[str, Map] = {}
    for place, site in places.items():
        mine = [change for change in lowrank if (change.site.weight, change.site.part) == place]
        rest = [change for change in stored if change.parameter in (site.weight, site.bias)]
        found[site.name] = Map(site, (*mine, *rest))
    return found


def bare_parameters(edit: Edit, maps: Mapping[str, Map]) -> list[str]:
    """Name the parameters that an edit changes and that belong to none of its maps."""
    within = {name for one in maps.values() for name in (one.site.weight, one.site.bias)}
    return [name for name in edit.parameters if name not in within]


def emptied(model: nn.Module, edit: Edit) -> Edit:
    """Make the edit that sets to zero whatever an edit acts on: maps with their biases, other parameters whole.

    On an edit of low-rank changes this is `mt.null` of the engram with the same sites.
    """
    maps = maps_of(model, edit)
    nothing = {
        name: LowRank(one.site, torch.zeros(one.site.o, 0), torch.zeros(0, one.site.d)) for name, one in maps.items()
    }
    silenced = null(model, Engram(nothing))
    others = (Dense(name, -model.get_parameter(name).detach()) for name in bare_parameters(edit, maps))
    return Edit((*silenced.changes, *others), silenced.manifest)


def _sites(model: nn.Module) -> list[Site]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # modules that are no sites are parameters like others here
        try:
            return list(sites(model).values())
        except SelectionError:  # a network without any linear map
            return []
