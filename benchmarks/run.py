"""Run every benchmark in a process of its own and print one table; goes on after a failure.

python benchmarks/run.py                     all of them, an hour on one core
python benchmarks/run.py --quick speed       those whose name contains "speed", in tiny settings
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.figures import Figure, table  # noqa: E402

NAMES = (
    "papers.digits",
    "papers.mnist",
    "papers.cifar",
    "papers.funes",
    "papers.leace",
    "papers.grafting",
    "papers.rome",
    "papers.capacity",
    "papers.modern",
    "papers.diffusion",
    "papers.extended",
    "papers.score",
    "papers.consolidation",
    "papers.recall_digits",
    "papers.recollection",
    "papers.pointer",
    "papers.photographs",
    "papers.visualisation",
    "papers.spiking",
    "papers.naming",
    "papers.cells",
    "papers.modalities",
    "papers.probes",
    "papers.dictionaries",
    "papers.superposition",
    "papers.interference",
    "papers.assemblies",
    "papers.discovery",
    "papers.chronicle",
    "papers.denouement",
    "papers.causal_graphs",
    "papers.spreading",
    "papers.reconsolidation",
    "papers.minds",
    "papers.sequences",
    "papers.methods",
    "real_models.cells",
    "real_models.dictionaries",
    "real_models.word_associations",
    "real_models.graphs_of_models",
    "real_models.stories",
    "real_models.minilm",
    "speed.beliefs",
    "speed.cells",
    "speed.collect",
    "speed.concepts",
    "speed.dictionaries",
    "speed.parity",
    "speed.probes",
    "speed.recollect",
    "speed.retrieval",
    "speed.sampling",
    "speed.imports",
    "speed.size",
    "speed.solve",
    "speed.spiking",
    "speed.trace",
    "speed.values",
)


def run(name: str, quick: bool, folder: Path) -> tuple[list[Figure], str]:
    """Run one script; returns its figures and, if there are none, why."""
    file = folder / f"{name}.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file), *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        return [], f"failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    result = json.loads(file.read_text())
    figures = [Figure(f"{name}: {f['name']}", f["value"], f["gate"], f["note"]) for f in result["figures"]]
    return figures, f"skipped: {result['skipped']}" if result["skipped"] else ""


def main() -> int:
    """Run what was asked for; the status is 1 when a script failed or a gate was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of names; all without")
    parser.add_argument("--quick", action="store_true", help="tiny settings, no gates")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    chosen = [name for name in NAMES if not options.names or any(part in name for part in options.names)]
    figures: list[Figure] = []
    reasons: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            print(f"{name} ...", file=sys.stderr, flush=True)
            found, reason = run(name, options.quick, Path(folder))
            figures += found
            reasons |= {name: reason} if reason else {}
    print(table(figures))
    for name, reason in reasons.items():
        print(f"{name} {reason}")
    missed = sum(f.met is False for f in figures)
    print(f"{sum(f.met is True for f in figures)} gates met, {missed} missed, 1 thread")
    if options.json:
        values = [vars(f) | {"met": f.met} for f in figures]
        options.json.write_text(json.dumps({"figures": values, "reasons": reasons, "threads": 1}, indent=1))
    return int(missed > 0 or any(reason.startswith("failed") for reason in reasons.values()))


if __name__ == "__main__":
    sys.exit(main())
