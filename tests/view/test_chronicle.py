"""What the page says of the lives of concepts."""

import torch

from mnemotrace.evaluation.chronicle import Chronicle
from mnemotrace.view import figures_of, summary, table
from mnemotrace.view.sections import sections

GRID = torch.tensor([[0.0, 0.5], [1.0, 0.25]])
PACKED = Chronicle(
    ("a", "b"), (0, 10), GRID, GRID / 2, GRID / 4, GRID / 8, GRID, GRID, torch.eye(2).expand(2, 2, 2),
    {"method": "chronicle", "random": 3, "rank": 8},
).pack()  # fmt: skip


def test_the_table_holds_every_measurement() -> None:
    headings, rows = table(PACKED)
    assert headings[:3] == ("concept", "step", "score")
    assert rows[1] == ("a", "10", "0.5", "0.25", "0.125", "0.0625", "0.5", "0.5", "1") and len(rows) == 4


def test_the_figure_shows_what_is_beyond_chance() -> None:
    (figure,) = figures_of(PACKED)
    assert figure.label == "2 concepts over 2 times; at the last step the scores are a 0.5, b 0.25."
    drawn = figure.svg()
    assert "necessity beyond random, up to 0.25" in drawn and "step" in drawn


def test_the_section_says_what_it_does_not_prove() -> None:
    (section,) = sections([PACKED])
    assert section.title == "Lives of concepts" and "agreement of two halves" in section.caveat
    assert ("measured", "2 times, from step 0 to 10") in section.terms
    assert dict(summary(PACKED))["random traces beside each erasure"] == "3"
