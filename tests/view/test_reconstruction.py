"""A reconstruction on the page: where each feature comes from, and how unsure it is."""

import pytest
import torch

from mnemotrace.core.artifact import Artifact
from mnemotrace.retrieval.reconstruction import Reconstruction
from mnemotrace.view import figures_of, summary, table
from mnemotrace.view.page import render
from mnemotrace.view.sections import sections


def found(b: int = 1, d: int = 4, *, posterior: bool = True) -> Reconstruction:
    """Cues that know the first feature; all draws but one end in the second episode, whose core is the second."""
    samples = torch.randn(b, 5, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    episode = torch.tensor([[1, 1, 0, 1, 1]]).expand(b, 5)
    fixed = torch.zeros(2, d).bool()
    known = torch.zeros(b, d).bool()
    fixed[1, 1:2] = True
    known[:, 0] = True
    chances = torch.tensor([[0.25, 0.75]]).expand(b, 2) if posterior else None
    return Reconstruction(samples, episode, chances, fixed, known, {"sigma": 0.1})


def test_every_feature_has_its_origin_mean_and_deviation() -> None:
    made = found(2)
    (figure,) = figures_of(made.pack())
    assert [row[:3] for row in figure.rows] == [
        (cue, i, origin)
        for cue in (0, 1)
        for i, origin in enumerate(("given", "kept", "reconstructed", "reconstructed"))
    ]
    assert [row[3] for row in figure.rows] == pytest.approx(made.mean.flatten().tolist())
    assert [row[4] for row in figure.rows] == pytest.approx(made.deviation.flatten().tolist())
    assert "feature" in figure.svg()


def test_kept_is_what_the_library_calls_core() -> None:
    made = found()
    (figure,) = figures_of(made.pack())
    words = {"kept": "core", "reconstructed": "semantic"}
    labels = [words.get(row[2]) for row in figure.rows]
    assert labels[1:] == made.labels()[0][1:]


def test_the_table_and_the_section_say_where_it_ended() -> None:
    made = found()
    unsure = made.deviation[0, 2:].mean()
    headings, (row,) = table(made.pack())
    told = dict(zip(headings, row, strict=True))
    assert (told["given"], told["kept"], told["reconstructed"]) == ("1", "1", "2")
    assert (told["episode"], told["draws there"], told["probability"]) == ("1", "0.8", "0.75")
    assert told["± reconstructed"] == f"{unsure:.3g}"
    (section,) = sections([made.pack()])
    assert section.title == "Reconstruct"
    assert section.remarks == [
        f"Cue 0: 1 given, 1 kept, 2 reconstructed; what is reconstructed varies by {unsure:.3g} on average. 0.8 of "
        "the draws ended in episode 1, whose probability given the cue is 0.75."
    ]
    assert [one.caption for one in section.numbers] == ["Cues", "Every feature"]
    assert ("reconstructed", "2 features") in summary(made.pack())


def test_only_the_first_cues_are_drawn_and_one_of_wide_patterns() -> None:
    assert {row[0] for row in figures_of(found(5).pack())[0].rows} == {0, 1, 2}
    assert {row[0] for row in figures_of(found(3, 2000).pack())[0].rows} == {0}
    assert len(table(found(5).pack())[1]) == 5


def test_without_a_posterior_or_with_one_feature_or_nan_it_is_drawn_too() -> None:
    bare = found(posterior=False)
    (section,) = sections([bare.pack()])
    assert section.remarks[0].endswith("ended in episode 1.")
    broken = found()
    broken.samples[..., 2] = float("nan")
    assert [row[3] is None for row in figures_of(broken.pack())[0].rows] == [False, False, True, False]
    broken.samples[:] = float("nan")
    assert figures_of(broken.pack()) == []
    page = render([found(1, 1).pack(), bare.pack(), broken.pack(), Artifact("reconstruction", {})])
    assert ">nan<" not in page
