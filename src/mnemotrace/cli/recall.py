"""`mnemotrace recall`: patterns from a stored memory, or images from a vision model run backwards."""

from pathlib import Path
from typing import Any

import click

from mnemotrace.cli._memories import Cued
from mnemotrace.cli._options import drawing, in_a_folder, output, require_drawable, verb
from mnemotrace.cli._session import Session
from mnemotrace.cli._vision import PREDICTED, RULES, Wanted, arrange

SAMPLERS = ("heun", "ddim", "euler_maruyama", "bridge")
SUFFIX = ".safetensors"
FILE = click.Path(path_type=Path, dir_okay=False)
OF_MEMORIES = {"known": "--known", "sampler": "--sampler", "sigma": "--sigma"}
OF_MODELS = {"images": "--image", "site": "--site", "top": "--top", "donor": "--donor", "trace": "--trace",
             "save_trace": "--save-trace", "force": "--force"}  # fmt: skip


@verb(
    "recall",
    "mnemotrace recall memory.safetensors cues.npy --known mask.npy -o recall.safetensors",
    "mnemotrace recall path/to/vit --image cat.png --rules image -o recollection.safetensors --figure sheet.png",
    "mnemotrace recall path/to/vit --image cat.png --donor dog.png -o donor.safetensors",
)
@click.argument("model", metavar="FILE|MODEL")
@click.argument("cues", metavar="[CUES]", required=False, type=FILE)
@click.option("--known", type=FILE, metavar="FILE", help="Memory: mask of the features of the cues that are held.")
@click.option("--sampler", type=click.Choice(SAMPLERS), help="Memory: recall by diffusion, with this sampler.")
@click.option("--sigma", type=float, help="Memory: recall by diffusion; noise that the cues carry.")
@click.option("--image", "images", type=FILE, multiple=True, metavar="FILE", help="Model: what is cued; repeatable.")
@click.option("--unit", default=PREDICTED, show_default=True, metavar="N", help="Model: the unit that is recalled.")
@click.option("--site", metavar="NAME", help="Model: module that the recall starts from; the output otherwise.")
@click.option("--top", type=float, metavar="P", help="Model: start from this share of the site's units, the strongest.")
@click.option("--rules", type=click.Choice(RULES), default=RULES[0], show_default=True, help="Model: of the way back.")
@click.option("--donor", type=FILE, metavar="FILE", help="Model: take the trace of this image instead.")
@click.option("--trace", type=FILE, metavar="FILE", help="Model: take a trace that --save-trace wrote.")
@click.option(
    "--save-trace", type=FILE, metavar=f"FILE{SUFFIX}", callback=in_a_folder, help="Model: keep the trace that is used."
)
@click.option("--force", is_flag=True, help="Model: take a trace of another network too.")
@output(SUFFIX, required=False)
@drawing("Draw what came back; of a model beside the images and its controls.")
@click.option("--dry-run", is_flag=True, help="Only say what would be recalled, from what.")
def recall(
    session: Session, *, model: str, cues: Path | None, path: Path | None, figure: Path | None, dry_run: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Recall patterns from a stored memory, or images from a vision model.

    FILE is a memory that was saved: hopfield, dense_memory, modern_hopfield, diffusion_memory, patterns or another
    denoiser. CUES are an array .npy, or .safetensors of states, patterns or one tensor. The memory runs to rest, or
    with --sampler or --sigma by diffusion.

    MODEL is a Hugging Face directory or cached name of an image classifier, or `digits`. It is run backwards from a
    unit with the trace of what it let through, and always beside the same recall from no source and from a wrong one.
    Images are pictures, or arrays .npy in the model's own input space.
    """
    if path is None and not dry_run:
        raise click.UsageError("got no -o; expected where to write, or --dry-run")
    require_drawable(figure)
    if Path(model).suffix == SUFFIX or Path(model).is_file():
        _refuse(options | {"unit": None}, OF_MODELS, "a memory")
        if cues is None:
            raise click.UsageError("got a memory and no CUES; expected a file of cues, (b, d)")
        asked = Cued(Path(model), cues, *(options[name] for name in OF_MEMORIES))
        _patterns(session, asked, None if dry_run else path, figure)
        return
    _refuse(options | {"cues": cues}, OF_MEMORIES | {"cues": "CUES"}, "a model")
    given = {name: options[name] for name in ("images", "unit", "site", "top", "rules", "donor", "trace", "force")}
    _images(session, Wanted(model, **given), None if dry_run else path, figure, options["save_trace"])


def _refuse(options: dict[str, Any], names: dict[str, str], what: str) -> None:
    given = [option for name, option in names.items() if options.get(name) not in (None, (), False)]
    if given:
        raise click.UsageError(f"got {what} and {', '.join(given)}; expected none of these: they are for the other use")


def _patterns(session: Session, asked: Cued, path: Path | None, figure: Path | None) -> None:
    if path is None:
        memory, cue, known = asked.read()
        held = None if known is None else int(known.sum())
        values = {
            "memory": type(memory).__name__,
            "d": memory.d,
            "cues": len(cue) if cue.ndim > 1 else 1,
            "known": held,
        }
        session.tell(values, [(name, str(value)) for name, value in values.items() if value is not None])
        return
    from mnemotrace.view import figures_of, save

    found = asked.recall(session, trajectory=figure is not None)
    session.save(found, path)
    drawn = {} if figure is None else {"figure": str(save(figures_of(found.pack())[0], figure)[0])}
    session.made(path, cues=len(found.state), at_rest=int(found.converged.sum()), **drawn)


def _images(session: Session, asked: Wanted, path: Path | None, figure: Path | None, kept: Path | None) -> None:
    scene = arrange(session, asked)
    if path is None:
        trace = scene.record()
        values: dict[str, Any] = {"source": str(scene.source), "rules": asked.rules, "predicted": scene.said}
        values |= {"samples": len(trace), "shape": list(trace.input_shape), "bits": trace.bits()}
        session.tell(values, [(name, str(value)) for name, value in values.items()])
        return
    from mnemotrace.view import save
    from mnemotrace.view.recollection import sheet

    found = scene.recollect(asked.rules, session.seed)
    session.save(found, path)
    made: dict[str, Any] = {} if kept is None else {"trace": str(session.save(scene.record().forgotten(), kept))}
    drawing_of = None if figure is None else sheet(found.pack(), beside=scene.beside)
    if figure is not None and drawing_of is not None:
        made["figure"] = str(save(drawing_of, figure)[0])
    session.made(
        path, source=found.source, predicted=scene.said, sensitivity=dict(found.sensitivity), bits=dict(found.bits),
        unreversed=list(found.unreversed), **made,
    )  # fmt: skip
