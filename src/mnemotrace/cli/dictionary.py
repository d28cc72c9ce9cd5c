"""`mnemotrace dictionary`: directions that a module's activations are sparse sums of."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from mnemotrace.cli._inputs import open_network, read_examples
from mnemotrace.cli._options import output, verb
from mnemotrace.cli._session import Session

VARIANTS = ("topk", "batch_topk", "jump_relu", "matryoshka")
whole = click.IntRange(min=1)


@verb(
    "dictionary",
    "mnemotrace dictionary funes texts.jsonl --module transformer.h.3 --latents 1024 -k 16 -o latents.safetensors",
    "mnemotrace dictionary path/to/model texts.jsonl --module model.layers.8 --latents 16384 -o latents.safetensors",
)
@click.argument("model")
@click.argument("data", metavar="DATA.jsonl")
@output(".safetensors")
@click.option("--module", required=True, help="Whole name of the module whose output is coded.")
@click.option("--latents", type=whole, required=True, help="How many directions; usually several times the width.")
@click.option("-k", type=whole, default=32, show_default=True, help="Latents that are on at a time.")
@click.option("--variant", type=click.Choice(VARIANTS), default="topk", show_default=True, help="How they are chosen.")
@click.option("--steps", type=whole, help="Of the optimiser; one pass over the rows, at least 3000, otherwise.")
@click.option("--rows", type=whole, default=4096, show_default=True, help="Tokens a step.")
@click.option("--cache", type=click.Path(path_type=Path), help="Keep the activations in this new directory.")
@click.option("--batch-size", type=whole, default=32, show_default=True, help="Texts a forward pass.")
def dictionary(
    session: Session,
    *,
    model: str,
    data: str,
    path: Path,
    module: str,
    latents: int,
    k: int,
    variant: str,
    steps: int | None,
    rows: int,
    cache: Path | None,
    batch_size: int,
) -> None:
    """Train a sparse dictionary of what a module gives: its latents are candidates for concepts.

    MODEL is a Hugging Face directory, a name in its local cache, or `funes`. DATA holds one object a line,
    {"text": ...} or {"prompt": ..., "answer": ...}. Activations are streamed to disk, so that they may be larger than
    memory, and are thrown away at the end unless --cache says where to keep them.
    """
    import torch

    from mnemotrace.adapters.examples import batches
    from mnemotrace.core.progress import silent
    from mnemotrace.localisation.dictionary_training import dictionary as train
    from mnemotrace.stats.activations import ActivationCache

    network = open_network(model)
    ready = batches(network.tokenizer, read_examples(data), batch_size=batch_size)
    with ExitStack() as stack:
        folder = cache or Path(stack.enter_context(TemporaryDirectory())) / "activations"
        with session.progress("activations") as progress:
            kept = ActivationCache.write(network.model, ready, [module], path=folder, progress=progress or silent)
        with session.progress("training") as progress:
            found = train(
                kept.point(module),
                latents=latents,
                k=k,
                variant=variant,
                steps=steps,
                batch=min(rows, len(kept)),
                generator=torch.Generator().manual_seed(session.seed),
                progress=progress or silent,
            )
    session.save(found, path)
    report = found.report
    session.made(path, rows=len(kept), explained=report["explained"], active=report["active"], never=report["never"])
