"""`mnemotrace edit`: the edit that rewrites facts."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnemotrace.cli._exports import export, exporting, sizes
from mnemotrace.cli._inputs import Network, Reading, indices, open_network, read_source
from mnemotrace.cli._options import output, verb
from mnemotrace.cli._session import Session

if TYPE_CHECKING:
    from mnemotrace.adapters.facts import Fact
    from mnemotrace.core.edit import Edit
    from mnemotrace.stats.moments import Statistics

METHODS = ("rome", "memit", "alphaedit")


@verb(
    "edit",
    "mnemotrace edit path/to/model facts.jsonl --method rome --reference texts.jsonl -o edit.safetensors",
    "mnemotrace edit funes facts.jsonl --method memit --layers 1-3 --lookup prompt --reference texts.jsonl "
    "-o edit.safetensors --merge edited-model",
)
@click.argument("model")
@click.argument("facts", metavar="FACTS.jsonl")
@click.option("--method", type=click.Choice(METHODS), default="rome", show_default=True, help="How to write.")
@click.option("--layers", metavar="5|3-5", callback=indices, help="Whose MLPs to change; found by tracing otherwise.")
@click.option(
    "--reference",
    required=True,
    metavar="FILE",
    help="What must stay: statistics at these MLPs, or JSON lines of texts.",
)
@click.option(
    "--lookup", type=click.Choice(["subject", "prompt"]),
    help="Where the model looks facts up: at the last token of the subject, or of the prompt. Found by "
    "tracing when the layers are, the subject otherwise.",
)  # fmt: skip
@click.option(
    "--previous", multiple=True, type=click.Path(path_type=Path), metavar="EDIT",
    help="An edit that is in force already; repeatable, in order.",
)  # fmt: skip
@output(".safetensors")
@exporting
@click.option("--force", is_flag=True, help="Also with statistics or edits of another model.")
def edit(
    session: Session,
    *,
    model: str,
    facts: str,
    method: str,
    layers: tuple[int, ...] | None,
    reference: str,
    lookup: str | None,
    previous: Sequence[Path],
    path: Path,
    peft: Path | None,
    merge: Path | None,
    overwrite: bool,
    force: bool,
) -> None:
    """Rewrite facts: write the edit that makes a model answer their prompts with their targets.

    FACTS holds one object a line, {"prompt": ..., "subject": ..., "target": ...}, or is a file of CounterFact or zsRE.
    rome changes one layer, fact after fact; memit writes all at once over several layers; alphaedit does so where usual
    inputs and the edits given by --previous do not feel it. The edit is a value: MODEL itself is never changed. What is
    written to -o is the new edit alone, to be added to the previous ones with compose; --merge and --peft have all.
    """
    from mnemotrace.adapters.formats import facts_from
    from mnemotrace.core.applying import applied
    from mnemotrace.core.artifact import read
    from mnemotrace.core.edit import Edit

    wanted = facts_from(facts)
    network = open_network(model)
    earlier = [Edit.unpack(read(file, "edit")) for file in previous]
    for one in earlier:
        network.require_base(one, "an edit", force=force)
    chosen, where = _layers(session, network, wanted, layers, method)
    statistics = _statistics(session, network, reference, chosen, force=force)
    with ExitStack() as stack:
        for one in earlier:
            stack.enter_context(applied(network.model, one))
        options = {"statistics": statistics, "lookup": lookup or where, "previous": earlier}
        made = _write(session, network, wanted, method=method, layers=chosen, **options)
    made = _on_the_untouched(network, made, previous) if earlier else made
    session.save(made, path)
    written = export(network, reduce(add, [*earlier, made]), peft, merge, overwrite=overwrite)
    notes = [{key: entry[key] for key in ("prompt", "target", "before", "after")} for entry in made.manifest["facts"]]
    session.made(
        path, method=method, layers=chosen, lookup=options["lookup"], facts=notes, **sizes(network, made), **written
    )


def _on_the_untouched(network: Network, made: "Edit", previous: Sequence[Path]) -> "Edit":
    """Say that an edit belongs to MODEL, as those before it do, so that they can be added up and measured together."""
    from mnemotrace.core.artifact import fingerprint

    whole = {**made.manifest, "base": fingerprint(network.model), "previous": [str(file) for file in previous]}
    return replace(made, manifest=whole)


def _layers(
    session: Session, network: Network, facts: "list[Fact]", layers: tuple[int, ...] | None, method: str
) -> tuple[list[int], str]:
    """Return the layers that were named, or those that tracing suggests, and where they look facts up."""
    import torch

    import mnemotrace as mt

    where = "subject"
    if layers is None:
        generator = torch.Generator().manual_seed(session.seed)
        with session.progress("tracing") as progress:
            found = mt.suggest(network.model, network.tokenizer, facts, generator=generator, progress=progress)
        layers, where = ((found.layer,) if method == "rome" else found.layers), found.lookup
        named = ", ".join(map(str, layers))
        session.say(f"layers {named}, at the end of the {where}, by tracing; name them with --layers to skip this")
    if method == "rome" and len(layers) > 1:
        raise click.UsageError(f"got --layers with {len(layers)} layers and --method rome; expected one; or take memit")
    return list(layers), where


def _statistics(session: Session, network: Network, reference: str, layers: list[int], *, force: bool) -> "Statistics":
    """Return statistics of what must stay, collected at the layers' MLPs when texts are given."""
    from mnemotrace.adapters.decoder import decoder

    source = read_source(reference)
    if not isinstance(source, list):
        network.require_base(source, "statistics", force=force)
        return source
    names = [decoder(network.model).down_of(layer) for layer in layers]
    how = Reading(None, (), None, "all", None, 16, "float64").only(names)
    with session.progress("reference") as progress:
        return how.collect(network, source, progress=progress)


def _write(
    session: Session,
    network: Network,
    facts: "list[Fact]",
    *,
    method: str,
    layers: list[int],
    **options: Any,
) -> "Edit":
    import torch

    import mnemotrace as mt

    where: dict[str, Any] = {"layer": layers[0]} if method == "rome" else {"layers": layers}
    with session.progress(method) as progress:
        return getattr(mt, method)(
            network.model,
            network.tokenizer,
            facts,
            **where,
            **options,
            generator=torch.Generator().manual_seed(session.seed),
            progress=progress,
        )
