"""Files that are memories on the page: what they hold and are set to; and a page of all kinds."""

import re

import pytest
import torch

import mnemotrace as mt
from mnemotrace import files
from mnemotrace.core.artifact import Artifact
from mnemotrace.memories.core_memory import Core
from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.memories.extended import Affine, Point
from mnemotrace.memories.gaussian import GaussianMixture
from mnemotrace.memories.mixture import Mixture
from mnemotrace.memories.patterns import Patterns
from mnemotrace.memories.predictive import PCStore
from mnemotrace.memories.shapes import Samples, Sphere
from mnemotrace.view import figures_of, summary, table
from mnemotrace.view.page import render
from mnemotrace.view.sections import sections
from mnemotrace.view.words import MEMORIES, OTHER, WORDS

SIGNS = torch.tensor([[1.0, 1, 1, 1, 1, 1, 1, 1], [1.0, -1, 1, -1, 1, -1, 1, -1]], dtype=torch.float64)
WORLD = GaussianMixture(torch.zeros(2, 8, dtype=torch.float64), torch.eye(8, dtype=torch.float64).expand(2, 8, 8))
KEPT = Core(torch.arange(8) < 3, torch.ones(3, dtype=torch.float64), WORLD)


def trained() -> TrainedDenoiser:
    made = TrainedDenoiser(8, widths=(4, 5), spread=1.5, generator=torch.Generator().manual_seed(0))
    made.manifest = {"method": "fit_denoiser", "steps": 30, "losses": [1.0, 0.5, 0.25]}
    return made


ALL = {
    made.kind: made.pack()
    for made in (
        Patterns(SIGNS, weights=torch.tensor([1.0, 3.0], dtype=torch.float64)),
        mt.Hopfield(SIGNS),
        mt.DenseMemory(SIGNS, degree=3),
        mt.ModernHopfield(SIGNS),
        mt.DiffusionMemory(SIGNS, sigma=0.5),
        Mixture([KEPT, WORLD], weights=torch.tensor([0.75, 0.25], dtype=torch.float64)),
        KEPT,
        WORLD,
        Samples(SIGNS),
        Sphere(SIGNS[0], radius=1.5),
        Affine(SIGNS[0], SIGNS[1:]),
        Point(SIGNS[0]),
        trained(),
        PCStore([torch.zeros(8, 4)], [torch.zeros(8), torch.zeros(4)], relaxation=7),
    )
}
SAID = {
    "patterns": {"patterns": "2", "weights": "1 to 3, 1.6 of 2 in effect", "patterns a feature": "0.25"},
    "hopfield": {"patterns": "2", "rule": "hebb", "order": "asynchronous", "weights": "all alike"},
    "dense_memory": {"patterns": "2", "degree": "3", "separation": "power"},
    "modern_hopfield": {"patterns": "2", "beta": "from the patterns"},
    "diffusion_memory": {"patterns": "2", "sigma": "0.5", "beta, 1 / sigma²": "4"},
    "mixture": {"parts": "2", "weights": "0.25 to 0.75, 1.6 of 2 in effect"},
    "core": {"numbers kept": "3", "form": "conditional"},
    "gaussian_mixture": {"components": "2"},
    "samples": {"points": "2"},
    "sphere": {"radius": "1.5"},
    "affine": {"dimensions": "1", "scale": "flat"},
    "point": {"bytes": "64 B"},
    "pc_store": {"relaxation": "7"},
    "denoiser": {"hidden layers": "4, 5", "spread": "1.5"},
}

each = pytest.mark.parametrize("kind", MEMORIES)


def test_every_kind_that_is_saved_has_words_of_its_own() -> None:
    assert set(files._HOMES) <= set(WORDS)
    assert set(ALL) == set(MEMORIES) == set(SAID)
    assert len({words[0] for words in WORDS.values()}) == len({words[1] for words in WORDS.values()}) == len(WORDS)


@each
def test_a_memory_says_what_it_holds_and_is_set_to(kind: str) -> None:
    told = dict(summary(ALL[kind]))
    assert told["features"] == "8"
    assert SAID[kind].items() <= told.items()
    assert told["bytes"].endswith("B")


@each
def test_a_section_has_its_own_words_and_the_numbers(kind: str) -> None:
    (section,) = sections([ALL[kind]])
    assert section.title == MEMORIES[kind][0]
    assert section.shows != OTHER[0]
    assert ("features", "8") in section.terms
    (numbers,) = [one for one in section.numbers if one.caption != "Losses"]
    assert numbers.caption == ("Parts" if kind == "mixture" else "What is stored")
    assert all(len(row) == len(numbers.headings) for row in numbers.rows)


@each
def test_parts_may_be_missing(kind: str) -> None:
    whole = ALL[kind]
    for bare in (
        Artifact(kind, {}),
        Artifact(kind, whole.header),
        Artifact(kind, {}, whole.tensors),
        *(Artifact(kind, whole.header, {name: t for name, t in whole.tensors.items() if name != gone})
          for gone in whole.tensors),
    ):  # fmt: skip
        assert dict(summary(bare))["kind"] == kind
        table(bare), sections([bare]), figures_of(bare)


def test_the_parts_of_a_mixture_are_listed_with_their_weights() -> None:
    headings, rows = table(ALL["mixture"])
    assert headings == ("part", "kind", "weight", "what", "numbers")
    assert [row[:4] for row in rows] == [
        ("0", "core", "0.75", "numbers kept 3, form conditional"),
        ("1", "gaussian mixture", "0.25", "components 2, weights all alike"),
    ]


def test_a_denoiser_is_drawn_by_its_loss() -> None:
    (figure,) = figures_of(ALL["denoiser"])
    assert figure.rows == ((10.0, 1.0), (20.0, 0.5), (30.0, 0.25))
    assert figures_of(Artifact("denoiser", {"manifest": {"losses": [float("nan")]}})) == []
    count = sum(t.numel() for name, t in ALL["denoiser"].tensors.items() if name.startswith("network."))
    assert dict(summary(ALL["denoiser"]))["parameters"] == str(count)


def test_what_is_out_of_the_ordinary_is_said() -> None:
    (section,) = sections([ALL["hopfield"]])
    assert section.remarks == [
        "More than 0.138 patterns a feature are stored: Hebb's rule no longer holds random ones."
    ]
    (few,) = sections([mt.Hopfield(SIGNS.repeat(1, 2)).pack()])
    assert few.remarks == []
    (couplings,) = sections([mt.Hopfield(couplings=torch.zeros(4, 4)).pack()])
    assert couplings.remarks[0].startswith("Only the couplings are here")
    (core,) = sections([ALL["core"]])
    assert core.remarks == ["3 of 8 dimensions are kept; the others come from the semantic memory."]


def test_weights_that_are_not_numbers_are_a_dash() -> None:
    broken = Artifact("patterns", {}, {"values": SIGNS, "weights": torch.tensor([1.0, float("nan")])})
    assert dict(summary(broken))["weights"] == "–"


def test_one_pattern_is_a_memory_too() -> None:
    page = render([mt.ModernHopfield(SIGNS[:1], beta=2.0).pack(), Patterns(SIGNS[:1]).pack()])
    assert "all alike" in page
    assert "1 row<" in render([ALL["point"]])


def test_a_page_with_all_kinds_has_a_section_each_and_no_nan(artifacts) -> None:
    page = render([*artifacts.values(), *ALL.values()])
    titles = re.findall(r"<h2[^>]*>([^<]*)</h2>", page)
    assert set(titles) >= {words[0] for words in MEMORIES.values()}
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)
    assert OTHER[0] in page  # of the kind that nobody knows, and of no other
    assert page.count(OTHER[0]) == 1
