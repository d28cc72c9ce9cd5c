"""Files of norms are read as published, mistakes in them are told by line."""

import gzip
from pathlib import Path

import pytest

from mnemotrace.memories.norms import read_affect, read_norms


def _file(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_associations_are_read_with_and_without_what_leads_nowhere(tmp_path: Path) -> None:
    lines = ("BREAD,BUTTER,9,.6", "BREAD,WINE,9,.1", "BUTTER,BREAD,9,0.5", "BUTTER,BUTTER,9,0.1", "BUTTER,FLY,9,0")
    text = "\n".join(("cue,target,n,fsg", *lines))
    path = _file(tmp_path / "norms.csv", text)
    assert read_norms(path) == [("bread", "butter", 0.6), ("butter", "bread", 0.5)]
    assert read_norms(str(path), closed=False) == [
        ("bread", "butter", 0.6), ("bread", "wine", 0.1), ("butter", "bread", 0.5),
    ]  # fmt: skip
    packed = tmp_path / "norms.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert read_norms(packed) == read_norms(path)


def test_ratings_are_mapped_to_their_ranges_and_cases_joined(tmp_path: Path) -> None:
    lines = ["x,Word,V.Mean.Sum,A.Mean.Sum", "1,best,9,1", "2,worst,1,9", "3,even,5,5", "4,Pope,3,2", "5,pope,5,4"]
    found = read_affect(_file(tmp_path / "affect.csv", "\n".join(lines)))
    assert found == {"best": (1.0, 0.0), "worst": (-1.0, 1.0), "even": (0.0, 0.5), "pope": (-0.25, 0.25)}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("cue,target\na,b\n", "got the columns cue, target in f.csv; expected cue, target, fsg"),
        ("", "got the columns none in f.csv"),
        ("cue,target,fsg\na,b,.5\nb,a,1.2\n", "got '1.2' as fsg in line 3 of f.csv; expected a number from 0 to 1"),
        ("cue,target,fsg\na,b,nan\n", "got 'nan' as fsg"),
        ("cue,target,fsg\na,b\n", "got '' as fsg in line 2"),
        ("cue,target,fsg\na, ,.5\n", "got no word in line 2 of f.csv"),
        ("cue,target,fsg\na,b,.5\n", "got no pair to keep of 1 in f.csv; .* read it with closed=False"),
    ],
)
def test_mistakes_in_associations_are_told(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        read_norms(_file(tmp_path / "f.csv", text))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Word,V.Mean.Sum\na,5\n", "expected Word, V.Mean.Sum, A.Mean.Sum; rename"),
        ("Word,V.Mean.Sum,A.Mean.Sum\na,0.5,5\n", "got '0.5' as V.Mean.Sum in line 2 of f.csv; .* from 1 to 9"),
        ("Word,V.Mean.Sum,A.Mean.Sum\na,5,calm\n", "got 'calm' as A.Mean.Sum in line 2"),
        ("Word,V.Mean.Sum,A.Mean.Sum\n ,5,5\n", "got no word in line 2 of f.csv"),
        ("Word,V.Mean.Sum,A.Mean.Sum\n", "got no word in f.csv"),
    ],
)  # fmt: skip
def test_mistakes_in_ratings_are_told(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        read_affect(_file(tmp_path / "f.csv", text))


def test_the_published_norms_have_the_published_counts(data_dir: Path) -> None:
    found = read_norms(data_dir / "usf_association/usf_cue_target.csv.gz")
    assert len(found) == 63_619 + 1 - 4  # one target is a cue but is not flagged so; four pairs are a word with itself
    assert len({cue for cue, _, _ in found}) == 5018
    assert ("doctor", "nurse", 0.379) in found
