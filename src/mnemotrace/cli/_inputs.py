"""What commands read: a network, examples, statistics, and how to get from one to the next."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from mnemotrace.cli._options import Function
from mnemotrace.cli._session import Session

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from mnemotrace.adapters.examples import Batch, Example, Positions
    from mnemotrace.core.progress import Progress
    from mnemotrace.core.site import Site
    from mnemotrace.stats.moments import Statistics

STDIN = "-"
POSITIONS = ("answer", "predict", "all")


@dataclass(frozen=True)
class Network:
    """A model with its tokenizer."""

    model: "nn.Module"
    tokenizer: "PreTrainedTokenizerBase"

    @property
    def speaks(self) -> bool:
        """Whether it has a language head, so that answers and texts have probabilities."""
        head = getattr(self.model, "get_output_embeddings", None)
        return callable(head) and head() is not None

    def require_base(self, thing: Any, what: str, *, force: bool = False) -> None:
        """Refuse statistics, an engram or an edit that was made on another network.

        Raises:
            ValueError: the fingerprints differ.
        """
        require_base(self.model, thing, what, force=force)


def require_base(model: "nn.Module", thing: Any, what: str, *, force: bool = False) -> None:
    """Refuse what was made on another network, going by the fingerprint in its manifest.

    Raises:
        ValueError: the fingerprints differ.
    """
    from mnemotrace.core.artifact import fingerprint

    made_on, mine = thing.manifest.get("base"), fingerprint(model)
    if force or made_on is None or made_on == mine:
        return
    same = made_on.get("architecture") == mine["architecture"]
    raise ValueError(
        f"got {what} made on weights {made_on.get('weights')} and a model with weights {mine['weights']} "
        f"({'the same' if same else 'another'} architecture); expected one network; give the model that it was "
        "made on, or --force where the command has it"
    )


def open_network(name: str) -> Network:
    """Load a Hugging Face directory or cached name, or the shipped `funes`."""
    if name == "funes" and not Path(name).is_dir():
        from mnemotrace.organisms.funes import funes

        organism = funes()
        return Network(organism.model, organism.tokenizer)
    from mnemotrace.adapters.hf import load_model

    return Network(*load_model(name))


def read_examples(path: str) -> list["Example"]:
    """Read JSON lines from a file, or from stdin for `-`."""
    from mnemotrace.adapters.examples import read_jsonl

    if path != STDIN:
        return read_jsonl(path)
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "stdin"
        copy.write_bytes(sys.stdin.buffer.read())
        try:
            return read_jsonl(copy)
        except ValueError as error:
            raise ValueError(str(error).replace(str(copy), "stdin")) from error


def read_source(path: str) -> "Statistics | list[Example]":
    """Read what a target or reference may be: a file of statistics, or JSON lines."""
    from mnemotrace.core.artifact import read, read_header
    from mnemotrace.core.errors import ArtifactError
    from mnemotrace.stats.moments import Statistics

    if path == STDIN:
        return read_examples(path)
    try:
        read_header(path)
    except ArtifactError:
        if Path(path).suffix == ".safetensors":
            raise
        return read_examples(path)
    return Statistics.unpack(read(path, "statistics"))


def text_of(example: "Example") -> tuple[str, str]:
    """Return what makes two examples the same: what is read, and what is asked; labels do not count."""
    return example.joined, example.prompt or ""


def apart(
    session: Session, target: Sequence["Example"], others: list["Example"], name: str, *, drop: bool
) -> list["Example"]:
    """Return `others` without the examples of the target.

    Raises:
        ValueError: they share some and `drop` is off, or nothing else is there.
    """
    known = {text_of(example) for example in target}
    rest = [example for example in others if text_of(example) not in known]
    shared = len(others) - len(rest)
    if shared and not drop:
        raise ValueError(
            f"got {shared} examples that are in both the target and the {name}; expected none, for they would be kept "
            "and erased at once; take them out, or use --drop-shared"
        )
    if not rest:
        raise ValueError(f"got a {name} that holds nothing but the target; expected other examples")
    if shared:
        session.say(f"{shared} of {len(others)} examples of the {name} are in the target too and were left out")
    return rest


@dataclass(frozen=True)
class Reading:
    """How data is read and where is listened; the options that `reading` adds to a command.

    Attributes:
        pattern: regular expression for whole names of sites.
        suffixes: of names of sites.
        layers: indices.
        positions: of the target's rows, as in `adapters.examples.batches`.
        reference_positions: of the reference's rows.
        max_length: tokens an example.
        batch_size: examples a forward pass.
        dtype: of the sums.
    """

    pattern: str | None
    suffixes: tuple[str, ...]
    layers: tuple[int, ...] | None
    positions: "Positions"
    max_length: int | None
    batch_size: int
    dtype: str
    reference_positions: "Positions" = "all"

    @property
    def selection(self) -> str | list[str] | None:
        """What `mt.sites` takes."""
        return self.pattern or (list(self.suffixes) or None)

    def only(self, names: Sequence[str]) -> "Reading":
        """Return the same way of reading, at these sites."""
        return replace(self, pattern="|".join(map(re.escape, names)), suffixes=(), layers=None)

    def sites(self, model: "nn.Module") -> dict[str, "Site"]:
        """Choose sites of a network; a pooler only by name: it reads one position a text, and no embedding needs it."""
        from mnemotrace.adapters.linear import sites

        chosen = sites(model, self.selection, self.layers)
        if self.selection is not None:
            return chosen
        return {name: site for name, site in chosen.items() if name.split(".")[0] != "pooler"}

    def batches(
        self, network: Network, examples: Sequence["Example"], positions: "Positions | None" = None
    ) -> list["Batch"]:
        """Tokenise."""
        from mnemotrace.adapters.examples import batches

        where = positions or self.positions
        return batches(
            network.tokenizer, examples, batch_size=self.batch_size, max_length=self.max_length, positions=where
        )

    def collect(
        self,
        network: Network,
        examples: Sequence["Example"],
        *,
        positions: "Positions | None" = None,
        sites: "Mapping[str, Site] | None" = None,
        checkpoint: Path | None = None,
        every: int = 50,
        progress: "Progress | None" = None,
    ) -> "Statistics":
        """Collect statistics of examples."""
        import torch

        from mnemotrace.adapters.examples import rows_of
        from mnemotrace.stats.collect import collect

        ready = self.batches(network, examples, positions)

        def counted(done: int, total: int | None, what: str) -> None:
            if progress is not None:
                progress(done, total or len(ready), what)

        return collect(
            network.model,
            ready,
            sites=self.sites(network.model) if sites is None else sites,
            mask=rows_of,
            dtype=getattr(torch, self.dtype),
            checkpoint=checkpoint,
            every=every,
            progress=counted,
        )

    def select(self, statistics: "Statistics") -> "Statistics":
        """Keep the sites that were asked for."""
        if self.selection is None and self.layers is None:
            return statistics
        return statistics.select(self.selection, list(self.layers) if self.layers is not None else None)


def statistics_of(
    session: Session,
    network: Network,
    how: Reading,
    *,
    target: "Statistics | list[Example]",
    reference: "Statistics | list[Example]",
) -> "tuple[Statistics, Statistics]":
    """Return statistics of a target and a reference at the same sites, collecting what are examples still."""
    for given, name in ((target, "a target"), (reference, "a reference")):
        if not isinstance(given, list):
            network.require_base(given, name)
    with session.progress("target") as progress:
        found = how.collect(network, target, progress=progress) if isinstance(target, list) else how.select(target)
    with session.progress("reference") as progress:
        if not isinstance(reference, list):
            return found, reference
        positions = how.reference_positions
        return found, how.collect(network, reference, positions=positions, sites=found.sites, progress=progress)


def indices(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Parse layers: `0-5`, `0,2,7-9`."""
    if value is None:
        return None
    found: list[int] = []
    for part in value.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise click.BadParameter(f"got {value!r}; expected indices and ranges such as 0-5 or 0,2,7-9")
        found.extend(range(int(first), int(last or first) + 1))
    return tuple(found)


def numbers(_: click.Context, __: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Parse numbers separated by commas; `inf` is one."""
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"got {value!r}; expected numbers separated by commas, such as 0.5,1,2") from None


def named(_: click.Context, __: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Parse `NAME=VALUE`, several times; a value alone is named after its file."""
    found: dict[str, str] = {}
    for value in values:
        name, equals, rest = value.partition("=")
        key, content = (name, rest) if equals else (Path(value).stem, value)
        if not key or not content or key in found:
            raise click.BadParameter(f"got {value!r}; expected NAME=FILE with a name of its own")
        found[key] = content
    return found


def batching(function: Function) -> Function:
    """Add `--max-length` and `--batch-size`."""
    count = click.IntRange(min=1)
    size = click.option("--batch-size", type=count, default=16, show_default=True, help="Examples a forward pass.")
    length = click.option("--max-length", type=count, metavar="N", help="Cut longer examples to N tokens.")
    return length(size(function))


def reading(*, reference: bool = True) -> Callable[[Function], Function]:
    """Add the options of `Reading`; a command passes them on as `Reading(**options)`."""
    where = click.Choice(POSITIONS)
    options = [
        click.option("--sites", "pattern", metavar="REGEX", help="Sites whose whole name matches; all otherwise."),
        click.option(
            "--site", "suffixes", metavar="SUFFIX", multiple=True, help="Sites whose name ends so; repeatable."
        ),
        click.option("--layers", metavar="0-5", callback=indices, help="Layers to keep: ranges and indices."),
        click.option(
            "--positions",
            type=where,
            default="answer",
            show_default=True,
            help="Rows of a prompt with answer: the answer's tokens, those that predict them, or all. Of a text: all.",
        ),
        batching,
        click.option(
            "--dtype",
            type=click.Choice(["float32", "float64"]),
            default="float32",
            show_default=True,
            help="Of the sums.",
        ),
    ]
    if reference:
        same = "The same, of the reference."
        options.insert(
            4, click.option("--reference-positions", type=where, default="all", show_default=True, help=same)
        )

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
