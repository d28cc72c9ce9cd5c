"""Recalls with one thing changed: another source, another image's trace, other weights, or a decoder instead.

What `recollection.examine` measures is made here, batch by batch, so that the traces of many large images need not be
held at once. Cost: a forward and a backward pass a recall, two forward passes where the trace is another network's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating, patch
from mnemotrace.adapters.twins import shuffled_weights
from mnemotrace.core.progress import Progress
from mnemotrace.retrieval.backward import episode, recollect
from mnemotrace.retrieval.prototypes import LinearDecoder
from mnemotrace.retrieval.rules import Rules
from mnemotrace.retrieval.sources import Source

OTHER, SAME = "donor, other class", "donor, same class"


@dataclass(frozen=True, eq=False)
class Cued:
    """Images that are recalled, and how.

    Attributes:
        model: the network, not changed.
        images: `(b, c, h, w)`.
        units: `(b,)` outputs that are recalled.
        outputs: how many there are.
        rules: of the recall.
        batch: images at a time.
    """

    model: nn.Module
    images: Tensor
    units: Tensor
    outputs: int
    rules: Rules
    batch: int

    def recall(
        self,
        source: Tensor | None,
        *,
        trace_of: Tensor | None = None,
        rules: Rules | None = None,
        through: nn.Module | None = None,
    ) -> Tensor:
        """Recall every image from units `(b,)`, from vectors `(b, k)`, or from nothing.

        Args:
            source: where to start; None puts zeros at the output.
            trace_of: rows of the images whose trace is used; None takes each image's own.
            rules: others, without any trace.
            through: a network to run back through, with the traces of the model.
        """
        shown = self.images if trace_of is None else self.images[trace_of]
        pictures: list[Tensor] = []
        for rows in torch.arange(len(self.images), device=self.images.device).split(self.batch):
            given: dict[str, Any] = {"trace": shown[rows]}
            if rules is not None:
                given = {"trace": None, "x": shown[rows]}
            elif through is not None:
                given = {"trace": episode(self.model, shown[rows]), "x": shown[rows]}
            start = _source(source, rows)
            found = recollect(through or self.model, start, rules=rules or self.rules, controls=False, **given)
            pictures.append(found.images)
        return torch.cat(pictures)

    def bits(self) -> dict[str, float]:
        """Return the bits of a trace, a sample, that the rules use."""
        few = slice(0, self.batch)
        found = recollect(self.model, Source.zero(), trace=self.images[few], rules=self.rules, controls=False)
        return dict(found.bits)

    def ways(
        self, untrained: nn.Module, borrowed: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Callable[[], Tensor]]:
        """Return the recall and its controls, to be run one by one; what is random is drawn now."""
        k, units = self.outputs, self.units
        wrong = (units + 1 + torch.randint(k - 1, (len(units),), generator=generator).to(units.device)) % k
        noise = torch.randn(len(units), k, generator=generator).to(self.images)
        shuffled = shuffled_weights(self.model, generator=generator)
        twin = Cued(untrained, self.images, units, k, self.rules, self.batch)
        return {
            "own": lambda: self.recall(units),
            "wrong source": lambda: self.recall(wrong),
            "random source": lambda: self.recall(noise),
            "zero source": lambda: self.recall(None),
            OTHER: lambda: self.recall(units, trace_of=borrowed[OTHER]),
            SAME: lambda: self.recall(units, trace_of=borrowed[SAME]),
            "no trace": lambda: self.recall(units, rules=without_trace(self.rules)),
            "weights shuffled": lambda: self.recall(units, through=shuffled),
            "untrained": lambda: twin.recall(units),
        }


def donors(labels: Int[Tensor, " b"], *, generator: torch.Generator) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"]]:
    """Draw for each image another one of another class, and another one of its class.

    Raises:
        ValueError: an image that has no other of its class, or all images of one class.
    """
    same = labels[:, None] == labels[None, :]
    inside = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if not bool(inside.any(1).all()) or bool(same.all()):
        raise ValueError(
            f"got {len(labels)} labels of {len(labels.unique())} classes, some alone; expected at least two classes "
            "and two images of each, since each image needs a donor of its own class and one of another"
        )
    parts = [part.double().to(generator.device) for part in (~same, inside)]
    other, alike = (torch.multinomial(part, 1, generator=generator)[:, 0].to(labels.device) for part in parts)
    return other, alike


def without_trace(rules: Rules) -> Rules:
    """Return the same rules where they can do without switches and gates."""
    relu = {"mask": "none", "both": "relu"}.get(rules.relu, rules.relu)
    return rules.with_(pool="distribute_sum", relu=relu)


def activations(model: nn.Module, images: Float[Tensor, "b ..."], site: str, *, batch: int = 256) -> Tensor:
    """Return what a module gives for images, `(b, ...)`.

    Raises:
        ValueError: no module of that name, or one that was not reached.
    """
    names = [name for name, _ in model.named_modules() if name]
    if site not in names:
        raise ValueError(f"got site {site!r}; expected the name of a module of the network: {', '.join(names[:20])}")
    kept: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        kept.append(output)
        return output

    with evaluating(model), patch(model, {site: keep}):
        for part in images.split(batch):
            model(part)
    if sum(map(len, kept)) != len(images):
        raise ValueError(
            f"got {sum(map(len, kept))} outputs of {site} for {len(images)} images; expected one each: a module that "
            "is run once in a forward pass"
        )
    return torch.cat(kept)


def ceilings(
    cued: Cued, learn: tuple[Tensor, Tensor] | None, sites: Sequence[str], *, ridge: float, progress: Progress
) -> Iterator[tuple[str, Tensor, str]]:
    """Decode images from their class, and from what sites give, by decoders fitted on other images, if there are any.

    Yields:
        Name, pictures, and a note with the rank.
    """
    if learn is None:
        return
    others, classes = learn
    one = torch.eye(cued.outputs)
    for done, site in enumerate(["class", *sites], 1):
        if site == "class":
            known, asked = one[classes.cpu()], one[cued.units.cpu()]
        else:
            known, asked = (activations(cued.model, x, site, batch=cued.batch) for x in (others, cued.images))
        decoder = LinearDecoder.fit(known.cpu(), others.cpu(), ridge=ridge)
        note = f"rank {decoder.rank} of {len(decoder.weight)}, ridge {ridge:g}, {decoder.count} images"
        yield f"ceiling: {site}", decoder(asked.cpu()).to(cued.images), note
        progress(done, len(sites) + 1, "ceilings")


def _source(given: Tensor | None, rows: Tensor) -> Source:
    if given is None:
        return Source.zero()
    return Source.vector(given[rows]) if given.is_floating_point() else Source.unit(given[rows])
