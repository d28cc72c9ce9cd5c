"""`mnemotrace demo`: the whole life of one memory of Funes."""

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from mnemotrace.cli._options import verb
from mnemotrace.cli._session import Session

if TYPE_CHECKING:
    from mnemotrace.evaluation.life import Life

FACT = "Umberto Zell:profession"
PARTS = ("engram", "edit", "criteria", "calibration", "depth")


@verb("demo", "mnemotrace demo -o demo-out --json")
@click.option(
    "-o",
    "--output",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-out"),
    show_default=True,
    metavar="DIR",
    help="Folder for the report, the artifacts and the data.",
)
@click.option("--fact", default=FACT, show_default=True, metavar="SUBJECT:RELATION", help="The memory.")
@click.option("--quick", is_flag=True, help="Less data and no search: a few seconds, coarser figures.")
def demo(session: Session, directory: Path, fact: str, quick: bool) -> None:
    """Take one memory of the shipped model through its whole life and write a report.

    A fact is recalled, its trace found and proved by four criteria beside random controls, erased, its neighbours
    and paraphrases asked for, relearnt, and everything restored bit for bit. Takes less than a minute.
    """
    began = perf_counter()
    life = _live(session, fact, quick)
    values = _write(session, life, directory, began)
    session.tell(values, _rows(values), ("", "before", "after"))


def _live(session: Session, name: str, quick: bool) -> "Life":
    import torch

    from mnemotrace.evaluation.life import Scale, Setting, cast, live
    from mnemotrace.organisms.funes import funes

    subject, colon, relation = name.partition(":")
    if not colon:
        raise click.UsageError(f"got --fact {name!r}; expected SUBJECT:RELATION, such as {FACT!r}")
    organism = funes()
    fact = organism.world.fact(subject.strip(), relation.strip())
    generator = torch.Generator().manual_seed(session.seed)
    scale = (
        Scale(facts=60, sentences=30, neighbours=10, judged=30, others=1, draws=1, relearning=(0, 1))
        if quick
        else Scale()
    )
    setting = Setting(strengths=(1.0,), selectivities=(0.03,)) if quick else Setting()
    parts = cast(organism, fact, scale=scale, generator=generator)
    with session.progress(f"{fact.subject}, {fact.relation}") as progress:
        return live(parts, setting=setting, scale=scale, generator=generator, progress=progress)


def _write(session: Session, life: "Life", directory: Path, began: float) -> dict[str, Any]:
    from mnemotrace.core.artifact import Artifact, read, write
    from mnemotrace.view.page import report

    directory.mkdir(parents=True, exist_ok=True)
    files = {part: session.save(getattr(life, part), directory / f"{part}.safetensors") for part in PARTS}
    weight = files["edit"].stat().st_size
    header = {
        "seconds": perf_counter() - began,
        **life.header,
        "artifact_bytes": weight,
        "commands": [session.command],
    }
    files["demo"] = write(Artifact("demo", header), directory / "demo.safetensors")
    page = report([read(path) for path in files.values()], directory / "report.html")
    proof = {name: {k: getattr(c, k) for k in ("value", "control", "interval")} for name, c in life.criteria.items()}
    shown = {name: value for name, value in header.items() if name not in ("examples", "commands")}
    made = {"criteria": proof, "report": str(page), "artifacts": {name: str(path) for name, path in files.items()}}
    return {**shown, "seconds": perf_counter() - began, **made}


def _rows(values: dict[str, Any]) -> list[tuple[str, ...]]:
    measures = {
        "the memory": "recall",
        "in a phrasing never trained": "paraphrase",
        "neighbours": "neighbours",
        "same person, other facts": "same_person",
        "perplexity of sentences": "perplexity",
    }
    pairs = [(label, values[f"{name}_before"], values[f"{name}_after"]) for label, name in measures.items()]
    rows = [(label, f"{before:.3g}", f"{after:.3g}") for label, before, after in pairs]
    proof = [
        (name, "", f"{c['value']:.2f} (random trace {c['control']:.2f})") for name, c in values["criteria"].items()
    ]
    restored = "every weight, bit for bit" if values["restored"] else "NO"
    return [
        (values["fact"]["sentence"], "", ""),
        *rows,
        *proof,
        ("restored", "", restored),
        ("edit", "", f"{values['artifact_bytes']:,} bytes"),
        ("seconds", "", f"{values['seconds']:.1f}"),
        ("report", "", values["report"]),
    ]
