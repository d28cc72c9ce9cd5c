"""A mask on the page: where its entries are and what they carry."""

import pytest
import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.edit import Sparse
from mnemotrace.core.mask import Mask
from mnemotrace.view import mask as view
from mnemotrace.view.figure import WIDE
from mnemotrace.view.figures import figures_of
from mnemotrace.view.sections import sections
from mnemotrace.view.tables import summary, table

EVIDENCE = {"base": -4.0, "tuned": 0.0, "random": -3.8, "movers": -2.0, "learned": -0.4}


def packed(*names: str, **evidence: float) -> Artifact:
    regions = {
        name: Sparse(name, (4, 5), torch.arange(i + 1), 2.0 * torch.ones(i + 1, dtype=torch.float64))
        for i, name in enumerate(names)
    }
    return Mask(regions, 200, {"method": "graft", "evidence": evidence}).pack()


LAYERED = packed("h.0.attn.weight", "h.0.mlp.weight", "h.1.mlp.weight", **EVIDENCE)


def test_the_summary_counts_and_compares() -> None:
    told = dict(summary(LAYERED))
    assert told["entries"] == "6 of 200, 0.03"
    assert told["score, the learned mask"] == "-0.4"
    assert told["score, random entries"] == "-3.8"


def test_the_table_has_a_row_a_parameter() -> None:
    headings, rows = table(LAYERED)
    assert headings == view.COLUMNS
    assert rows[2] == ("h.1.mlp.weight", "3", "20", "0.15", "3.46", "48 B")
    assert all(len(row) == len(headings) for row in rows)


def test_the_section_says_what_share_of_the_gain_each_mask_carries() -> None:
    (section,) = sections([LAYERED])
    assert section.title == "Graft"
    (remark,) = section.remarks
    assert remark == ("Of what fine-tuning gained: random entries 5%, the largest movers 50%, the learned mask 90%.")


def test_without_evidence_there_is_no_remark() -> None:
    assert view.remarks(packed("a")) == []
    assert view.remarks(packed("a", base=1.0, tuned=1.0)) == []


@pytest.mark.parametrize("names", [("h.0.attn.weight", "h.1.mlp.weight"), ("fc1.weight", "fc2.bias")])
def test_the_figure_is_drawn_with_and_without_layers(names: tuple[str, ...]) -> None:
    pytest.importorskip("matplotlib")
    artifact = packed(*names)
    (figure,) = figures_of(artifact)
    assert figure.rows == ((names[0], 1, 0.05), (names[1], 2, 0.1))
    assert f"densest at {names[1]}, 0.1 of its entries" in figure.label
    assert figure.svg(WIDE).startswith("<svg")
    assert "parameter,entries,share" in figure.csv()


def test_an_empty_mask_has_no_figure() -> None:
    assert figures_of(packed()) == []
