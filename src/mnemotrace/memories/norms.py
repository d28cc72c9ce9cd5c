r"""Read what people said: free associations of words, and ratings of how words feel.

Free associations (Nelson, McEvoy and Schreiber 2004): some hundred and fifty people saw a cue and said the first word
that it brought to mind. Forward strength is the share of them who said the target,

.. math:: f(t \mid c) = \text{people who said } t / \text{people who saw } c.

Ratings (Warriner, Kuperman and Brysbaert 2013) are means on scales from 1 to 9. Valence is mapped to
:math:`(V - 5)/4 \in [-1, 1]`, arousal to :math:`(A - 1)/8 \in [0, 1]`.

The files are yours: none is part of this package. Words are read in lower case. Cost: a second for 72 000 lines.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

Pair = tuple[str, str, float]


def read_norms(path: Path | str, *, closed: bool = True) -> list[Pair]:
    """Read free associations.

    Args:
        path: CSV, or gzipped CSV, with the columns `cue`, `target` and `fsg`, the forward strength.
        closed: keep only targets that are cues too, so that every node has associates of its own; without it, words
            that nobody was asked about lead nowhere.

    Returns:
        Cue, target and forward strength above 0, in the order of the file; without the few who said the cue itself.

    Raises:
        ValueError: a column that is missing, a strength that is no number from 0 to 1, or no pair at all.
    """
    pairs: list[Pair] = []
    for line, (cue, target, said) in _rows(path, ("cue", "target", "fsg")):
        strength = _number(said, (0.0, 1.0), "fsg", line, path)
        if not cue or not target:
            raise ValueError(f"got no word in line {line} of {Path(path).name}; expected a cue and a target")
        if strength > 0 and cue.lower() != target.lower():
            pairs.append((cue.lower(), target.lower(), strength))
    cues = {cue for cue, _, _ in pairs}
    found = [pair for pair in pairs if not closed or pair[1] in cues]
    if not found:
        raise ValueError(
            f"got no pair to keep of {len(pairs)} in {Path(path).name}; expected targets that are cues too; read it "
            "with closed=False"
        )
    return found


def read_affect(path: Path | str) -> dict[str, tuple[float, float]]:
    """Read ratings of words.

    Args:
        path: CSV, or gzipped CSV, with the columns `Word`, `V.Mean.Sum` and `A.Mean.Sum`, from 1 to 9.

    Returns:
        Valence from -1 to 1 and arousal from 0 to 1 by word; the mean where spellings differ by their case only.

    Raises:
        ValueError: a column that is missing, a rating that is no number from 1 to 9, or no word at all.
    """
    rated: dict[str, list[tuple[float, float]]] = {}
    columns = ("Word", "V.Mean.Sum", "A.Mean.Sum")
    for line, (word, *means) in _rows(path, columns):
        valence, arousal = (
            _number(mean, (1.0, 9.0), column, line, path) for mean, column in zip(means, columns[1:], strict=True)
        )
        if not word:
            raise ValueError(f"got no word in line {line} of {Path(path).name}; expected one beside its ratings")
        rated.setdefault(word.lower(), []).append(((valence - 5) / 4, (arousal - 1) / 8))
    if not rated:
        raise ValueError(f"got no word in {Path(path).name}; expected a line for each")
    return {word: (fmean(v for v, _ in both), fmean(a for _, a in both)) for word, both in rated.items()}


def _rows(path: Path | str, columns: tuple[str, str, str]) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers and the three columns asked for, which must be there."""
    opened = gzip.open if str(path).endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        heading = next(reader, [])
        if not set(columns) <= set(heading):
            raise ValueError(
                f"got the columns {', '.join(heading) or 'none'} in {Path(path).name}; expected {', '.join(columns)}; "
                "rename yours in the first line"
            )
        places = [heading.index(name) for name in columns]
        for row in reader:
            if row:
                yield reader.line_num, [row[place].strip() if place < len(row) else "" for place in places]


def _number(text: str, between: tuple[float, float], column: str, line: int, path: Path | str) -> float:
    low, high = between
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise ValueError(
            f"got {text!r} as {column} in line {line} of {Path(path).name}; expected a number from {low:g} to {high:g}"
        )
    return value
