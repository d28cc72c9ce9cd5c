"""Carry a memory from one network into another: a donor's engram as an edit of a host.

At each site the host gets `W_host + strength * P` with `P` the donor's engram. `P` reads the donor's features and
writes the donor's features, so it means something in the host only where both networks share them: copies, ancestors
and descendants of one training, or one network before and after an erasure. Two networks trained from different
starts have the same shapes and different features, and between them nothing is carried.

An output layer can hide that. Its rows are the classes, in any network, so a transplant there raises the memory's
output whatever its origin, and where the host has only lost the last step any raise brings the class back: on digits
with a class erased, a constant added to its output restores it too. The layers before the output tell.

`P` is all that the donor does with the memory's inputs, and a host that never had the memory does something with them
already. There, carry what differs: `transplant(engram_of_donor - engram_of_host, host)`, which teaches in part.

Cost: one look at each site of the host; the factors are shared with the engram, not copied.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from mnemotrace.adapters.linear import sites
from mnemotrace.core.artifact import fingerprint, library_version
from mnemotrace.core.edit import Edit
from mnemotrace.core.errors import EditError, SelectionError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site
from mnemotrace.core.trace import Engram


def transplant(
    engram: Engram, host: nn.Module, *, strength: float = 1.0, names: Mapping[str, str] | None = None
) -> Edit:
    """Make the edit that puts a donor's engram into a host.

    Args:
        engram: from `mt.engram` on the donor.
        host: the network to change later, with `mt.apply` or `mt.applied`; only read. It should share the donor's
            origin, see above.
        strength: 1 adds the engram once.
        names: host site by donor site, where the two differ; the others keep their names.

    Returns:
        The edit, addressed to the host's parameters; its manifest holds the fingerprints of host (`base`) and `donor`.

    Raises:
        SelectionError: the host lacks a site, or `names` speaks of sites that the engram lacks.
        EditError: a site has another shape, or no bias where the engram has one, or is to take two engrams.
    """
    wanted = _wanted(engram, names or {})
    found = sites(host, "|".join(re.escape(name) for name in wanted.values()))
    missing = [name for name in wanted.values() if name not in found]
    if missing:
        raise SelectionError(
            f"got a {type(host).__name__} without {', '.join(missing[:4])} ({len(missing)} of {len(wanted)} sites); "
            "expected all sites of the engram; give names={donor site: host site}, or carry engram.select(...) only"
        )
    changes = tuple(_moved(trace, found[wanted[name]]).scaled(strength) for name, trace in engram.items())
    manifest = {
        "method": "transplant",
        "strength": strength,
        "base": fingerprint(host),
        "donor": engram.manifest.get("base"),
        "names": {donor: name for donor, name in wanted.items() if donor != name},
        "of": dict(engram.manifest),
        "version": library_version(),
    }
    return Edit(changes, manifest)


def _wanted(engram: Engram, names: Mapping[str, str]) -> dict[str, str]:
    """Return the host's site name by donor site."""
    unknown = [name for name in names if name not in engram]
    if unknown:
        raise SelectionError(
            f"got names for {', '.join(unknown[:4])}; expected sites of the engram: {', '.join(list(engram)[:12])}"
        )
    wanted = {name: names.get(name, name) for name in engram}
    twice = sorted({name for name in wanted.values() if list(wanted.values()).count(name) > 1})
    if twice:
        raise EditError(
            f"got several sites of the engram for {', '.join(twice[:4])} of the host; expected one each; "
            "correct `names`"
        )
    return wanted


def _moved(trace: LowRank, site: Site) -> LowRank:
    """Address a trace to a site of the host."""
    if (trace.site.o, trace.site.d) != (site.o, site.d):
        raise EditError(
            f"got {site.name} of shape {(site.o, site.d)} in the host; expected {(trace.site.o, trace.site.d)} as "
            f"{trace.site.name} of the donor; transplants need networks of one design"
        )
    if trace.has_bias and site.bias is None:
        raise EditError(
            f"got {site.name} without a bias in the host; expected one, since the engram of {trace.site.name} "
            "changes it; extract the engram from a donor without biases, or give the host one"
        )
    return replace(trace, site=site)
