"""`mnemotrace demo`: the whole life of one memory of Funes."""

import json
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from mnemotrace.cli._options import verb
from mnemotrace.cli._session import Session

if TYPE_CHECKING:
    from mnemotrace.evaluation.cast import Cast
    from mnemotrace.evaluation.life import Life

FACT = "Olga Lund:animal"
PARTS = ("causal_trace", "engram", "edit", "criteria", "calibration", "depth", "rewrite")


@verb("demo", "mnemotrace demo -o demo-out", 'mnemotrace demo -o demo-out --json --fact "Olga Lund:animal"')
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-out"),
    show_default=True,
    metavar="DIR",
    help="Folder for the report, the artifacts and the data.",
)
@click.option("--fact", default=FACT, show_default=True, metavar="SUBJECT:RELATION", help="The memory.")
@click.option("--quick", is_flag=True, help="Less data and a single setting: seconds, and coarser figures.")
def demo(session: Session, *, folder: Path, fact: str, quick: bool) -> None:
    """Take one memory of the shipped model through its whole life and write a report.

    A fact is recalled, traced through the network, its engram found and proved by four criteria beside random traces,
    erased, what else knows of it asked for, relearnt, rewritten, and everything restored bit for bit. Takes less than a
    minute. The data go into the folder too, with the commands that do the same step by step.
    """
    began = perf_counter()
    parts, life = _live(session, fact, quick=quick)
    values = _write(session, parts, life, folder, began)
    session.tell(values, _rows(values), ("", "before", "erased", "rewritten"))


def _live(session: Session, name: str, *, quick: bool) -> "tuple[Cast, Life]":
    import torch

    from mnemotrace.evaluation.cast import QUICK, Scale, cast
    from mnemotrace.evaluation.life import ALONE, Setting, live
    from mnemotrace.organisms.funes import funes

    subject, colon, relation = name.partition(":")
    if not colon:
        raise click.UsageError(f"got --fact {name!r}; expected SUBJECT:RELATION, such as {FACT!r}")
    if session.threads is None:
        torch.set_num_threads(1)  # Funes is so small that more of them only wait for each other
    organism = funes()
    generator = torch.Generator().manual_seed(session.seed)
    scale, setting = (QUICK, ALONE) if quick else (Scale(), Setting())
    fact = organism.world.fact(subject.strip(), relation.strip())
    parts = cast(organism.world, fact, scale=scale, generator=generator)
    with session.progress(f"{fact.subject}, {fact.relation}") as progress:
        return parts, live(organism, parts, setting=setting, scale=scale, generator=generator, progress=progress)


def _write(session: Session, parts: "Cast", life: "Life", folder: Path, began: float) -> dict[str, Any]:
    from mnemotrace.core.artifact import Artifact, read, write
    from mnemotrace.view.page import report

    folder.mkdir(parents=True, exist_ok=True)
    _write_data(parts, folder / "data")
    files = {part: session.save(getattr(life, part), folder / f"{part}.safetensors") for part in PARTS}
    steps = commands(folder, life.header)
    header = {
        "seconds": perf_counter() - began,
        **life.header,
        "artifact_bytes": files["edit"].stat().st_size,
        "rewrite_bytes": files["rewrite"].stat().st_size,
        "commands": [session.command, *steps],
    }
    files["demo"] = write(Artifact("demo", header), folder / "demo.safetensors")
    page = report([read(path) for path in files.values()], folder / "report.html")
    proof = {name: {k: getattr(c, k) for k in ("value", "control", "interval")} for name, c in life.criteria.items()}
    made = {"criteria": proof, "artifacts": {name: str(path) for name, path in files.items()}, "report": str(page)}
    shown = {name: value for name, value in header.items() if name != "examples"}
    return {**shown, **made, "seconds": perf_counter() - began}


def _write_data(parts: "Cast", folder: Path) -> None:
    """Write every group of examples as JSON lines."""
    from mnemotrace.core.artifact import atomic

    folder.mkdir(exist_ok=True)
    for name, examples in parts.data.items():
        lines = ({k: v for k in ("text", "prompt", "answer") if (v := getattr(e, k)) is not None} for e in examples)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        with atomic(folder / f"{name}.jsonl") as temporary:
            temporary.write_text(text, encoding="utf-8")


def commands(folder: Path, header: Mapping[str, Any]) -> list[str]:
    """Return the commands that make the same edit step by step from the data in the folder."""
    from mnemotrace.evaluation.life import Setting

    def data(name: str) -> str:
        return quote(str(folder / "data" / f"{name}.jsonl"))

    def made(name: str) -> str:
        return quote(str(folder / f"{name}.safetensors"))

    sites = " ".join(f"--site {site}" for site in header["sites"])
    every = f"{sites} --positions all --dtype float64"
    found = f"{sites} --positions predict --dtype float64 --solver {Setting().solver}"
    asked = " ".join(f"--on {data(name)}" for name in ("memory", "paraphrase", "neighbours", "same_person"))
    strength = f"--strength {header['strength']:g}"
    steps = (
        f"collect funes {data('reference')} -o {made('reference')} {every}",
        f"collect funes {data('near')} -o {made('near')} {every}",
        f"compose {made('reference')} {made('near')} --weights 1,{Setting().near:g} -o {made('kept')}",
        f"locate funes --target {data('memory')} --reference {made('kept')} -o {made('engram')} {found} "
        f"--selectivity {header['selectivity']:g}",
        f"criteria funes {made('engram')} --target {data('memory')} --control {data('neighbours')} {strength} "
        f"--score likelihood -o {made('criteria')}",
        f"erase funes {made('engram')} -o {made('edit')} {strength}",
        f"measure funes {made('edit')} {asked}",
    )
    return [f"mnemotrace {step}" for step in steps]


def _rows(values: dict[str, Any]) -> list[tuple[str, ...]]:
    from mnemotrace.view.tables import MEASURES

    states = ("before", "after", "rewritten")
    rows = [(label, *(f"{values[f'{n}_{state}']:.3g}" for state in states)) for n, label in MEASURES.items()]
    proof = [
        (name, "", f"{c['value']:.2f} (random trace {c['control']:.2f})") for name, c in values["criteria"].items()
    ]
    return [
        (values["fact"]["sentence"], "", "", f"now: {values['target']}"),
        *rows,
        *proof,
        ("every weight restored bit for bit", "", "yes" if values["restored"] else "NO"),
        ("size of the edit", "", f"{values['artifact_bytes']:,} bytes", f"{values['rewrite_bytes']:,} bytes"),
        ("seconds", "", f"{values['seconds']:.1f}"),
        ("report", "", values["report"]),
    ]
