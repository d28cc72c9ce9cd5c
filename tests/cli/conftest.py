"""Run commands in this process, on Funes and on a tiny encoder; data and models are made once."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from mnemotrace.cli import main
from mnemotrace.organisms.funes import funes
from mnemotrace.organisms.world import World

FUNES = Path(__file__).parents[2] / "src" / "mnemotrace" / "organisms" / "data" / "funes"
SITES = ("--sites", r".*\.[01]\.mlp\.c_proj", "--positions", "predict")

Run = Callable[..., Result]


def invoke(*arguments: object, stdin: str | None = None) -> Result:
    """Run a command; whatever it raises but an exit is an error of the test."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def run() -> Run:
    """Run a command in this process: `run("show", path)`."""
    return invoke


@pytest.fixture
def made() -> Callable[..., dict]:
    """Run a command that must succeed and return its JSON."""

    def call(*arguments: object, stdin: str | None = None) -> dict:
        result = invoke(*arguments, "--json", stdin=stdin)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return call


def write_lines(path: Path, lines: Sequence[dict]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def world() -> World:
    """The facts that Funes knows."""
    return funes().world


@pytest.fixture(scope="session")
def data(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one fact, others to refer to, others to keep, sentences, and lines that are not apart."""
    folder = tmp_path_factory.mktemp("data")
    fact = world.fact("Olga Lund", "animal")
    rest = [f for f in world.facts if f.subject != fact.subject]

    def lines(facts: Sequence, phrasings: str = "phrasings") -> list[dict]:
        return [{"prompt": p, "answer": f.answer} for f in facts for p in getattr(f, phrasings)]

    write_lines(folder / "fact.jsonl", lines([fact]))
    write_lines(folder / "paraphrase.jsonl", lines([fact], "held_out"))
    write_lines(folder / "reference.jsonl", lines(rest[:12]))
    write_lines(folder / "others.jsonl", lines(rest[20:24]))
    write_lines(folder / "shared.jsonl", lines([rest[0], fact]))
    write_lines(folder / "sentences.jsonl", [{"text": text} for text in world.general[:6]])
    return folder


@pytest.fixture(scope="session")
def made_once(data: Path) -> Path:
    """The same folder with statistics, an engram and an edit."""
    reference, engram, edit = (data / f"{name}.safetensors" for name in ("reference", "engram", "edit"))
    steps = (
        ("collect", "funes", data / "reference.jsonl", "-o", reference, *SITES[:2], "--positions", "all"),
        ("locate", "funes", "--target", data / "fact.jsonl", "--reference", reference, "-o", engram, *SITES,
         "--selectivity", "0.1"),
        ("erase", "funes", engram, "-o", edit),
    )  # fmt: skip
    for step in steps:
        result = invoke(*step)
        assert result.exit_code == 0, result.stderr
    return data


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT in a Hugging Face directory, with the words of Funes."""
    from transformers import BertConfig, BertModel

    tokenizer = funes().tokenizer
    folder = tmp_path_factory.mktemp("encoder")
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def topics(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled sentences of two topics, to learn from and to ask for: one erased, one kept."""
    folder = tmp_path_factory.mktemp("topics")

    def lines(relation: str, part: slice) -> list[dict]:
        facts = [f for f in world.facts if f.relation == relation][part]
        return [{"text": f.sentences[0], "label": relation} for f in facts]

    for name, part in (("train", slice(0, 12)), ("test", slice(12, 18))):
        write_lines(folder / f"animal-{name}.jsonl", lines("animal", part))
        write_lines(folder / f"others-{name}.jsonl", [*lines("town", part), *lines("profession", part)])
    both = (folder / "animal-train.jsonl").read_text() + (folder / "others-train.jsonl").read_text()
    (folder / "probe.jsonl").write_text(both)
    return folder
