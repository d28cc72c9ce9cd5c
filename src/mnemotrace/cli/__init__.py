"""The command line: a file per verb, each of which parses, calls one function and writes; torch is loaded only then."""

import os

import click

from mnemotrace.cli._options import Main
from mnemotrace.cli.calibrate import calibrate
from mnemotrace.cli.cells import cells
from mnemotrace.cli.collect import collect
from mnemotrace.cli.compare import compare
from mnemotrace.cli.compose import compose
from mnemotrace.cli.criteria import criteria
from mnemotrace.cli.demo import demo
from mnemotrace.cli.dictionary import dictionary
from mnemotrace.cli.edit import edit
from mnemotrace.cli.erase import erase
from mnemotrace.cli.graft import graft
from mnemotrace.cli.locate import locate
from mnemotrace.cli.measure import measure
from mnemotrace.cli.mind import mind
from mnemotrace.cli.recall import recall
from mnemotrace.cli.report import report
from mnemotrace.cli.show import show
from mnemotrace.cli.suggest import suggest
from mnemotrace.cli.trace import trace

__all__ = ["main"]

# Idle threads that spin slow everything fivefold when other programs want the cores; read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mnemotrace", message="mnemotrace %(version)s")
def main() -> None:
    """Find, prove, rewrite, erase and restore memories in trained networks.

    What a command prints is data (--json for programs); progress and remarks go to stderr. Exit codes: 0 done,
    1 failed, 2 wrong usage.
    """


for command in (
    trace,
    suggest,
    collect,
    locate,
    criteria,
    calibrate,
    erase,
    edit,
    graft,
    measure,
    compare,
    compose,
    recall,
    cells,
    dictionary,
    mind,
    show,
    report,
    demo,
):
    main.add_command(command)
