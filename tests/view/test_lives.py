"""What the page says of lives."""

import pytest
import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import lives

MEASURES = ("gist", "gist, chance", "gist, ceiling", "old", "evaluations")


def packed() -> Artifact:
    """Two minds, three seeds; the second never answered about the past."""
    values = torch.zeros(5, 2, 2, 3)
    values[0, 1] = torch.tensor([[0.5, 0.6, 0.7], [0.1, 0.2, 0.3]])
    values[1, 1], values[2, 1] = 0.25, 0.9
    values[3, 1, 1] = torch.nan
    values[4, 1] = 1280.0
    manifest = {"method": "lives", "story": "The letters on the sill", "seeds": [0, 1, 2]}
    return Artifact("lives", {"lesions": ["intact", "hm"], "measures": list(MEASURES), "manifest": manifest},
                    {"values": values})  # fmt: skip


def test_a_summary_says_which_minds_lived_what_how_often() -> None:
    assert dict(lives.summary(packed())) == {
        "story": "The letters on the sill",
        "minds": "intact, hm",
        "lives each": "3",
    }


def test_the_table_sets_minds_beside_chance_and_ceiling_and_leaves_a_dash_where_nothing_was_measured() -> None:
    headings, rows = lives.table(packed())
    named = {row[0]: dict(zip(headings, row, strict=True)) for row in rows}
    assert list(named) == ["intact", "hm", "chance", "ceiling"]
    assert named["intact"]["gist"] == "0.6" and named["chance"]["gist"] == "0.25" and named["ceiling"]["gist"] == "0.9"
    assert named["hm"]["long before"] == named["hm"]["detail"] == "–"
    assert named["intact"]["states denoised"] == "1,280"


def test_the_figure_holds_each_mind_with_its_spread_and_can_be_drawn() -> None:
    figure = lives.figure(packed())
    assert figure is not None and "<svg" in figure.svg() and "<svg" in figure.svg(328)
    row = next(row for row in figure.rows if row[:2] == ("gist", "hm"))
    assert 0.1 <= row[3] < row[2] < row[4] <= 0.3 + 1e-6
    assert row[5:] == pytest.approx((0.25, 0.9))
    assert len(figure.rows) == 3


def test_a_file_without_values_has_no_figure() -> None:
    bare = Artifact("lives", {}, {})
    assert lives.figure(bare) is None and lives.table(bare)[1] == [] and dict(lives.summary(bare))["lives each"] == "–"
