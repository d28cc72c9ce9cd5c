"""What `import mnemotrace` costs beyond torch's own import; CPU time of fresh processes, median of five."""

import statistics
import subprocess
import sys

from benchmarks.figures import Figure, main

_CLOCK = """
from time import process_time as now
start = now()
import torch
middle = now()
{what}
print(now() - middle, middle - start)
"""


def seconds(what: str, repeats: int) -> tuple[float, float]:
    """Median seconds of a statement after torch, and of torch itself, in fresh processes."""
    lines = [
        subprocess.run(
            [sys.executable, "-c", _CLOCK.format(what=what)], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(repeats)
    ]
    pairs = [tuple(map(float, line.split())) for line in lines]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


def measure(quick: bool) -> list[Figure]:
    """Measure the bare import, and the import of every public name."""
    repeats = 1 if quick else 5
    bare, torch_alone = seconds("import mnemotrace", repeats)
    figures = [Figure("import mnemotrace beyond torch, s", bare, "<= 0.3", f"torch alone {torch_alone:.2f} s")]
    verbs = "import mnemotrace as mt; mt.collect, mt.engram, mt.erase, mt.applied, mt.save"
    return [*figures, Figure("collect, engram, erase, applied, save beyond torch, s", seconds(verbs, repeats)[0])]


if __name__ == "__main__":
    main(measure, __doc__)
