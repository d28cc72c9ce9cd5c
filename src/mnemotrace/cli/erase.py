"""`mnemotrace erase`: the edit that takes a memory out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnemotrace.cli._exports import export, exporting, sizes
from mnemotrace.cli._inputs import Network, Reading, apart, open_network, read_source, reading, statistics_of
from mnemotrace.cli._options import output, verb
from mnemotrace.cli._session import Session
from mnemotrace.cli.locate import DROP

if TYPE_CHECKING:
    from mnemotrace.core.trace import Engram


@verb(
    "erase",
    "mnemotrace erase funes engram.safetensors -o edit.safetensors --strength 1.2 --merge edited-model",
    "mnemotrace erase funes --calibration calibration.safetensors --target fact.jsonl --reference facts.jsonl "
    "-o edit.safetensors --positions predict",
)
@click.argument("model")
@click.argument("engram", required=False, metavar="[ENGRAM]", type=click.Path(path_type=Path))
@click.option("--calibration", type=click.Path(path_type=Path), metavar="FILE", help="Take its sites and strengths.")
@click.option("--target", metavar="FILE", help="With --calibration: the memory, statistics or JSON lines.")
@click.option("--reference", metavar="FILE", help="With --calibration: what must be kept, statistics or JSON lines.")
@click.option("--drop-shared", is_flag=True, help=DROP)
@output(".safetensors")
@click.option("--strength", type=float, metavar="X", help="Factor of the engram: 1 otherwise, or the calibrated one.")
@exporting
@click.option("--force", is_flag=True, help="Also on another model than the engram was made on.")
@reading()
def erase(
    session: Session,
    *,
    model: str,
    engram: Path | None,
    calibration: Path | None,
    target: str | None,
    reference: str | None,
    drop_shared: bool,
    path: Path,
    strength: float | None,
    peft: Path | None,
    merge: Path | None,
    overwrite: bool,
    force: bool,
    **options: Any,
) -> None:
    """Erase a memory: write the edit that subtracts its engram, and at will a LoRA adapter or the edited model.

    The edit is a value: MODEL itself is never changed. Give an engram, or a calibration with a target and a reference.
    """
    import mnemotrace as mt

    found = _from_file(engram) if engram is not None and calibration is None else None
    if found is None and (engram is not None or calibration is None or target is None or reference is None):
        raise click.UsageError("expected either ENGRAM, or --calibration with --target and --reference")
    network = open_network(model)
    if found is None:
        how = Reading(**options)
        found, factor = _calibrated(session, network, how, (calibration, target, reference), drop=drop_shared)
        strength = factor if strength is None else strength
    network.require_base(found, "an engram", force=force)
    edit = mt.erase(found, 1.0 if strength is None else strength)
    session.save(edit, path)
    written = export(network, edit, peft, merge, overwrite=overwrite)
    session.made(path, strength=edit.manifest.get("strength"), **sizes(network, edit), **written)


def _from_file(path: Path) -> "Engram":
    from mnemotrace.core.artifact import read
    from mnemotrace.core.trace import Engram

    return Engram.unpack(read(path, "engram"))


def _calibrated(
    session: Session, network: Network, how: Reading, files: tuple[Any, ...], *, drop: bool
) -> "tuple[Engram, float]":
    from mnemotrace.core.artifact import read
    from mnemotrace.evaluation.calibration import Calibration

    calibration, target, reference = files
    setting = Calibration.unpack(read(calibration, "calibration"))
    network.require_base(setting, "a calibration")
    memory, rest = read_source(target), read_source(reference)
    if isinstance(memory, list) and isinstance(rest, list):
        rest = apart(session, memory, rest, "reference", drop=drop)
    chosen = how.only(setting.best.names)
    wanted, kept = statistics_of(session, network, chosen, target=memory, reference=rest)
    return setting.engram(network.model, target=wanted, reference=kept), setting.best.strength
