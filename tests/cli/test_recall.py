"""`mnemotrace recall` gives what the library gives: patterns from memories, images from vision models."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import mnemotrace as mt
from mnemotrace.adapters.vision import load_vision, read_images
from mnemotrace.core.artifact import read
from mnemotrace.core.episode import EpisodicTrace
from mnemotrace.retrieval.backward import Recollection, Rules, Source, episode, recollect
from mnemotrace.retrieval.diffusion import recall_by_diffusion
from tests.adapters.pictures import picture, save_vit
from tests.cli.conftest import Run

Made = Callable[..., dict]


@pytest.fixture(scope="module")
def memories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Memories of twelve patterns, cues with the last third missing, and masks."""
    folder = tmp_path_factory.mktemp("memories")
    generator = torch.Generator().manual_seed(0)
    rows = torch.where(torch.rand(3, 24, generator=generator) < 0.5, -1.0, 1.0)
    cue = rows.clone()
    cue[:, 16:] = 0
    store = mt.ModernHopfield(rows)
    made = {"hopfield": mt.Hopfield(rows), "modern": store, "diffusion": mt.DiffusionMemory(rows, sigma=0.5),
            "patterns": store.patterns}  # fmt: skip
    for name, memory in made.items():
        mt.save(memory, folder / f"{name}.safetensors")
    np.save(folder / "rows.npy", rows.numpy())
    np.save(folder / "cues.npy", cue.numpy().astype("int8"))
    np.save(folder / "known.npy", (np.arange(24) < 16).astype("int8"))
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT with two pictures beside it."""
    folder = save_vit(tmp_path_factory.mktemp("vit"), processor=True)
    for seed, name in enumerate(("a.png", "b.png")):
        picture(folder / name, (16, 16), seed)
    return folder


@pytest.fixture
def workplace(memories: Path, vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with memories, a model, and files that fit nothing."""
    monkeypatch.chdir(tmp_path)
    for file in (*memories.iterdir(), vit / "a.png"):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "vit").symlink_to(vit)
    np.save("wide.npy", np.full((2, 25), 3.0))
    save_file({"x": torch.zeros(2), "y": torch.zeros(2)}, "plain.safetensors")
    mt.save(mt.recall(mt.load("hopfield.safetensors"), torch.zeros(24)), "recalled.safetensors")
    return tmp_path


@pytest.mark.parametrize("name", ["hopfield", "modern", "diffusion", "patterns"])
def test_a_memory_runs_to_rest_from_cues(name: str, made: Made, memories: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.safetensors"
    values = made("recall", memories / f"{name}.safetensors", memories / "cues.npy", "-o", out)
    assert (values["kind"], values["cues"], values["at_rest"]) == ("recall", 3, 3)
    rows = torch.from_numpy(np.load(memories / "rows.npy"))
    assert torch.equal(mt.load(out).state.sign(), rows)
    assert mt.load(out).manifest["command"].startswith("mnemotrace recall")


def test_by_diffusion_it_gives_what_the_library_gives(made: Made, memories: Path, tmp_path: Path) -> None:
    out, mask = tmp_path / "r.safetensors", memories / "known.npy"
    asked = ("--known", mask, "--sampler", "euler_maruyama", "--sigma", 0.3, "--seed", 4)
    made("recall", memories / "diffusion.safetensors", memories / "cues.npy", *asked, "-o", out)
    cue, known = (torch.from_numpy(np.load(memories / f"{name}.npy")) for name in ("cues", "known"))
    wanted = recall_by_diffusion(
        mt.load(memories / "diffusion.safetensors"), cue.float(), sigma=0.3, known=known.bool(),
        sampler="euler_maruyama", generator=torch.Generator().manual_seed(4),
    )  # fmt: skip
    assert torch.equal(mt.load(out).state, wanted.state)


def test_known_features_are_held(made: Made, memories: Path, tmp_path: Path) -> None:
    cue = -torch.from_numpy(np.load(memories / "rows.npy"))
    cue[:, :4] *= -1  # right, and outvoted by all others
    np.save(tmp_path / "cue.npy", cue.numpy())
    np.save(tmp_path / "known.npy", np.arange(24) < 4)
    out, asked = tmp_path / "r.safetensors", (memories / "hopfield.safetensors", tmp_path / "cue.npy")
    made("recall", *asked, "-o", out)
    assert not torch.equal(mt.load(out).state[:, :4], cue[:, :4])
    made("recall", *asked, "--known", tmp_path / "known.npy", "-o", out)
    assert torch.equal(mt.load(out).state[:, :4], cue[:, :4])


def test_a_recall_is_a_cue_again_and_is_drawn(made: Made, memories: Path, tmp_path: Path) -> None:
    first, second, figure = (tmp_path / name for name in ("a.safetensors", "b.safetensors", "way.svg"))
    made("recall", memories / "hopfield.safetensors", memories / "cues.npy", "-o", first)
    values = made("recall", memories / "hopfield.safetensors", first, "-o", second, "--figure", figure)
    assert torch.equal(mt.load(first).state, mt.load(second).state)
    assert values["figure"] == str(figure) and figure.read_text().startswith("<?xml")


def test_an_image_is_recollected_as_the_library_does(made: Made, vit: Path, tmp_path: Path) -> None:
    out, figure = tmp_path / "r.safetensors", tmp_path / "sheet.png"
    asked = ("--image", vit / "a.png", "--image", vit / "b.png", "--rules", "guided")
    values = made("recall", vit, *asked, "-o", out, "--figure", figure, "--seed", 3)
    vision = load_vision(vit)
    x = read_images(vision, [vit / "a.png", vit / "b.png"])
    units = vision.model(x).logits.argmax(1)
    wanted = recollect(vision.model, units, trace=x, rules=Rules.guided(), generator=torch.Generator().manual_seed(3))
    found = Recollection.unpack(read(out, "recollection"))
    assert torch.equal(found.images, wanted.images)
    assert all(torch.equal(found.controls[name], wanted.controls[name]) for name in ("zero", "wrong"))
    assert values["predicted"] == [vision.label(unit) for unit in units.tolist()]
    assert set(values["sensitivity"]) == {"zero", "wrong"}
    assert figure.read_bytes().startswith(b"\x89PNG")
    told = (tmp_path / "sheet.csv").read_text()
    assert "from no source" in told and "from a wrong source" in told


def test_a_saved_trace_recalls_without_the_image(made: Made, run: Run, vit: Path, tmp_path: Path) -> None:
    first, again, trace = (tmp_path / f"{name}.safetensors" for name in ("a", "b", "t"))
    made("recall", vit, "--image", vit / "a.png", "--unit", 1, "-o", first, "--save-trace", trace)
    made("recall", vit, "--trace", trace, "--unit", 1, "-o", again)
    a, b = (Recollection.unpack(read(path)) for path in (first, again))
    assert torch.allclose(a.images, b.images, atol=1e-3)  # real numbers of a trace are kept to 16 bits
    assert read(trace).header["manifest"]["command"].startswith("mnemotrace recall")
    other = save_vit(tmp_path / "other", processor=False)
    vision = load_vision(other)
    torch.nn.init.zeros_(vision.model.get_parameter("classifier.weight"))
    vision.model.save_pretrained(other)  # type: ignore[operator]
    refused = run("recall", other, "--trace", trace, "--unit", 1, "-o", again)
    assert refused.exit_code == 1 and "got a trace made on weights" in refused.stderr
    assert run("recall", other, "--trace", trace, "--unit", 1, "-o", again, "--force").exit_code == 0


def test_the_trace_of_a_donor_stands_in_for_that_of_the_image(made: Made, vit: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.safetensors"
    made("recall", vit, "--image", vit / "a.png", "--donor", vit / "b.png", "--unit", 2, "-o", out)
    vision = load_vision(vit)
    x, donor = (read_images(vision, [vit / name]) for name in ("a.png", "b.png"))
    wanted = recollect(vision.model, 2, trace=episode(vision.model, donor), x=x)
    assert torch.equal(Recollection.unpack(read(out)).images, wanted.images)


def test_a_recall_may_start_from_the_strongest_units_of_a_site(made: Made, vit: Path, tmp_path: Path) -> None:
    out, site = tmp_path / "r.safetensors", "vit.layernorm"
    values = made("recall", vit, "--image", vit / "a.png", "--site", site, "--top", 0.1, "-o", out)
    vision = load_vision(vit)
    x = read_images(vision, [vit / "a.png"])
    wanted = recollect(vision.model, Source.sparse(site, top=0.1), trace=x)
    assert values["source"] == str(Source.sparse(site, top=0.1))
    assert torch.equal(Recollection.unpack(read(out)).images, wanted.images)


def test_digits_are_read_and_recollected(run: Run, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = mt.digits(epochs=3)
    monkeypatch.setattr(import_module("mnemotrace.organisms.digits"), "digits", lambda: small)
    np.save(tmp_path / "x.npy", small.test_inputs[:3].view(3, 1, 8, 8).numpy())
    out, page = tmp_path / "r.safetensors", tmp_path / "page.html"
    values = made("recall", "digits", "--image", tmp_path / "x.npy", "-o", out)
    said = small.model(small.test_inputs[:3]).argmax(1).tolist()
    assert values["predicted"] == [f"digit {digit} ({digit})" for digit in said]
    assert Recollection.unpack(read(out)).images.shape == (3, 1, 8, 8)
    made("recall", "digits", "--image", picture(tmp_path / "p.png", (20, 20)), "-o", out)
    made("report", out, "-o", page)
    assert "from no source" in page.read_text()
    assert "correlation with that from no source" in run("show", out).stdout


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    made: Made, memories: Path, vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = made("recall", memories / "hopfield.safetensors", memories / "cues.npy", "--dry-run")
    assert values == {"memory": "Hopfield", "d": 24, "cues": 3, "known": None}
    values = made("recall", vit, "--image", vit / "a.png", "--dry-run")
    assert values["samples"] == 1 and values["shape"] == [3, 16, 16] and values["bits"]["total"] > 0
    assert not list(tmp_path.iterdir())


IMAGE = ("--image", "a.png")


@pytest.mark.parametrize(
    "arguments",
    [
        ("m.safetensors", "cues.npy"),
        ("m.safetensors", "-o", "x"),
        ("m.safetensors", "cues.npy", "-o", "x", *IMAGE),
        ("m.safetensors", "cues.npy", "-o", "x", "--sampler", "none"),
        ("m.safetensors", "cues.npy", "-o", "x", "--figure", "x.pdf"),
        ("vit", "-o", "x"),
        ("vit", "cues.npy", "-o", "x"),
        ("vit", *IMAGE, "-o", "x", "--sigma", "1"),
        ("vit", *IMAGE, "-o", "x", "--unit", "cat"),
        ("vit", *IMAGE, "-o", "x", "--unit", "1", "--top", "0.1"),
        ("vit", *IMAGE, "-o", "x", "--site", "layer"),
        ("vit", *IMAGE, "-o", "x", "--donor", "b.png", "--trace", "t"),
        ("vit", "--trace", "t", "-o", "x"),
        ("vit", *IMAGE, "-o", "x", "--save-trace", "no/such/folder/t"),
        ("vit", *IMAGE, "-o", "x", "--rules", "mine"),
    ],
)
def test_wrong_usage_is_exit_code_two(
    arguments: tuple[str, ...], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("recall", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.safetensors", "cues.npy"), "missing.safetensors, which is not a file"),
        (("hopfield.safetensors", "missing.npy"), "missing.npy, which is not a file"),
        (("hopfield.safetensors", "wide.npy"), "the memory has 24 features"),
        (("hopfield.safetensors", "cues.npy", "--sigma", "1"), "expected a memory that denoises"),
        (("hopfield.safetensors", "cues.npy", "--known", "wide.npy"), "expected a mask, True where known"),
        (("recalled.safetensors", "cues.npy"), "expected a memory to recall from"),
        (("hopfield.safetensors", "plain.safetensors"), "expected cues (b, d) as the only tensor"),
        (("no/such/model", "--image", "a.png"), "neither a directory nor a model"),
        (("vit", "--image", "missing.png"), "missing.png, which is not a file"),
        (("vit", "--image", "a.png", "--unit", "9"), "expected indices in 0..2"),
        (("vit", "--image", "a.png", "--unit", "0", "--site", "x"), "expected the name of a module"),
        (("vit", "--image", "a.png", "--top", "2"), "expected a share of units in (0, 1]"),
        (("vit", "--trace", "hopfield.safetensors", "--unit", "0"), "expected 'episodic_trace'"),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], message: str, run: Run, workplace: Path
) -> None:
    before = sorted(workplace.iterdir())
    result = run("recall", *arguments, "-o", "x.safetensors")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert line.startswith("error: ") and message in line
    assert sorted(workplace.iterdir()) == before


def test_a_trace_that_is_kept_has_no_strengths(made: Made, vit: Path, tmp_path: Path) -> None:
    trace = tmp_path / "t.safetensors"
    made("recall", vit, "--image", vit / "a.png", "-o", tmp_path / "r.safetensors", "--save-trace", trace)
    assert all(entry.strength is None for entry in EpisodicTrace.unpack(read(trace)).entries)
