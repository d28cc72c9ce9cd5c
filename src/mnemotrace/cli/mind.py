"""`mnemotrace mind`: minds live a story and are asked about it."""

from pathlib import Path

import click

from mnemotrace.cli._options import in_a_folder, verb
from mnemotrace.cli._session import Session

ENDINGS = (".safetensors", ".html")
LESIONS = ("intact", "funes", "hm", "shereshevskii", "aphantasia")
SHIPPED = "denouement"


@click.group("mind", help="Minds, whole and lesioned, live a story; see `mnemotrace mind run --help`.")
def mind() -> None:
    """Hold what can be done with minds."""


def _ending(context: click.Context, parameter: click.Parameter, path: Path) -> Path:
    if path.suffix not in ENDINGS:
        raise click.BadParameter(f"got {path.name}; expected a name that ends in {' or '.join(ENDINGS)}; choose one")
    in_a_folder(context, parameter, path)
    return path


@verb(
    "run",
    "mnemotrace mind run denouement -o lives.html",
    "mnemotrace mind run story.yaml --lesion intact --lesion hm --lives 5 -o lives.safetensors",
)
@click.argument("story")
@click.option(
    "-o",
    "--output",
    "path",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_ending,
    metavar="FILE.html|safetensors",
    help="A page, or the artifact; the file appears whole or not at all.",
)
@click.option(
    "--lesion", "lesions", multiple=True, type=click.Choice(LESIONS), help="Of a mind; may be repeated. All by default."
)
@click.option("--lives", "count", type=click.IntRange(min=1), default=1, show_default=True, help="Seeds a mind.")
@click.option("--mode", type=click.Choice(("simulate", "graph")), help="How all minds recall; else each as it does.")
def run(session: Session, *, story: str, path: Path, lesions: tuple[str, ...], count: int, mode: str | None) -> None:
    """Let minds live a story, ask all the same questions, and write what each recalls.

    STORY is a YAML file, `denouement` for the story that comes with the package, or `drawn` for another one at each
    seed. Gist, detail, weak cues, days that were never lived and confabulation stand beside chance and ceiling.
    """
    from dataclasses import replace

    from mnemotrace.core.progress import silent
    from mnemotrace.mind.living import lives
    from mnemotrace.mind.story import Story
    from mnemotrace.view.lives import table
    from mnemotrace.view.page import report

    told = None if story == "drawn" else Story.shipped() if story == SHIPPED else Story.read(story)
    seeds = range(session.seed, session.seed + count)
    with session.progress("living") as progress:
        made = lives(told, lesions or LESIONS, seeds, mode=mode, progress=progress or silent)  # pyright: ignore
    made = replace(made, manifest={**made.manifest, "command": session.command})
    if path.suffix == ".html":
        report([made.pack()], path, title=told.title if told else "Lives")
    else:
        session.save(made, path)
    headings, rows = table(made.pack())
    means = {name: {mind: made.mean(name, mind)[0] for mind in made.lesions} for name in made.values}
    session.tell({"path": str(path), "minds": list(made.lesions), "means": means}, rows, headings)


mind.add_command(run)
