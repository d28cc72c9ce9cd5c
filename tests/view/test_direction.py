"""What the page says of an eraser."""

import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.direction import Direction
from mnemotrace.view import figures_of, summary, table
from mnemotrace.view.sections import sections

EVIDENCE = {"rows": 800, "correlation": [0.75, 0.5], "variance": [0.25, 0.125], "change": 0.375,
            "covariance_before": 0.25, "covariance_after": 1e-16}  # fmt: skip
PACKED = Direction(torch.ones(6, 2), torch.ones(2, 6), torch.ones(6), EVIDENCE, {"method": "leace"}).pack()


def test_a_summary_says_what_is_taken_away_and_what_is_left() -> None:
    said = dict(summary(PACKED))
    assert said["kind"] == "direction" and said["takes away"] == "2 of 6 dimensions"
    assert said["covariance with the concept"] == "0.25 → 1e-16" and said["method"] == "leace"


def test_the_table_and_the_figure_hold_every_direction() -> None:
    assert table(PACKED)[1] == [("1", "0.75", "0.25"), ("2", "0.5", "0.125")]
    (figure,) = figures_of(PACKED)
    assert figure.rows == ((1, 0.75, 0.25), (2, 0.5, 0.125))
    assert figure.label.endswith(
        "strongest correlates 0.75 with the concept; together they hold 0.375 of the variance."
    )
    assert "<svg" in figure.svg() and "correlation with the concept" in figure.svg()
    (section,) = sections([PACKED])
    assert section.title == "Erase a concept" and [one.name for one in section.figures] == ["direction"]


def test_an_eraser_without_evidence_or_directions_has_no_figure() -> None:
    bare = Artifact("direction", {}, {})
    assert figures_of(bare) == [] and table(bare)[1] == []
    assert ("fitted rows", "–") in summary(bare)
