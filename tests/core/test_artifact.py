"""Files: whole or not at all, ours or refused, tensors stored once; fingerprints of networks."""

import json
import pickle
import stat
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from mnemotrace.core import artifact
from mnemotrace.core.artifact import Artifact, atomic, fingerprint, library_version, read, read_header, write
from mnemotrace.core.errors import ArtifactError, MnemotraceError
from tests.core.zoo import Zoo


def example() -> Artifact:
    shared = torch.arange(12.0).reshape(3, 4)
    tensors = {"a.left": shared, "b.left": shared, "c": torch.tensor([1, 2]), "d": torch.ones(2, dtype=torch.bfloat16)}
    return Artifact("example", {"count": 3, "names": ["ü"]}, tensors)


def with_metadata(path: Path, text: str) -> Path:
    save_file({"x": torch.ones(1)}, path, metadata={"mnemotrace": text})
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write(example(), tmp_path / "x.safetensors")
    found = read(path, "example")
    assert (found.kind, found.header) == ("example", example().header)
    assert found.tensors.keys() == example().tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in example().tensors.items())
    assert all(found.tensors[name].dtype == tensor.dtype for name, tensor in example().tensors.items())


def test_a_shared_tensor_is_stored_once_and_shared_again(tmp_path: Path) -> None:
    path = write(example(), tmp_path / "x")
    found = read(path)
    assert found.tensors["a.left"] is found.tensors["b.left"]
    unshared = dict(example().tensors) | {"b.left": example().tensors["b.left"].clone()}
    assert write(Artifact("example", {}, unshared), tmp_path / "y").stat().st_size > path.stat().st_size


@given(
    st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool]), st.data()
)
def test_any_dtype_shape_and_layout_survives(dtype: torch.dtype, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 4), max_size=3))
    tensor = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 10).to(dtype)
    turned = tensor.T if tensor.ndim == 2 else tensor
    with tempfile.TemporaryDirectory() as folder:
        found = read(write(Artifact("x", {}, {"t": turned}), Path(folder) / "x"))
    assert found.tensors["t"].dtype == dtype
    assert torch.equal(found.tensors["t"], turned)


def test_the_header_is_read_without_the_tensors(tmp_path: Path) -> None:
    header = read_header(write(example(), tmp_path / "x"))
    assert header["kind"] == "example"
    assert header["version"] == library_version()
    assert header["values"] == example().header


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"which is not a file; expected an artifact that `mt.save` wrote"):
            read(path)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    path = write(example(), tmp_path / "x")
    with pytest.raises(ArtifactError, match="of kind 'example'; expected 'edit'; give the matching file") as error:
        read(path, "edit")
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, MnemotraceError)


def test_a_newer_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "SCHEMA", artifact.SCHEMA + 1)
    path = write(example(), tmp_path / "x")
    monkeypatch.undo()
    with pytest.raises(
        ArtifactError, match=r"got schema 2 in .*, written by .*; expected at most 1; upgrade mnemotrace"
    ):
        read(path)


def test_plain_weights_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "x")
    with pytest.raises(ArtifactError, match="safetensors without our header"):
        read(tmp_path / "x")


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 64, pickle.dumps({"x": 1})])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ArtifactError, match="not readable as safetensors"):
        read(tmp_path / "x")


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("a pickle was executed",)


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    torch.save({"x": _Bomb()}, tmp_path / "x")
    with pytest.raises(ArtifactError):
        read(tmp_path / "x")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"schema": 1}', '{"schema": "new"}'])
def test_a_header_that_is_not_ours_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArtifactError, match="a header of mnemotrace"):
        read(with_metadata(tmp_path / "x", text))


@given(st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_anywhere_is_refused(share: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(example(), Path(folder) / "x")
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ArtifactError):
            read(path)


@pytest.mark.parametrize("header", [{"x": torch.ones(1)}, {"x": {1, 2}}, {"x": float("nan")}])
def test_a_header_that_is_not_json_is_refused_before_anything_is_written(tmp_path: Path, header: dict) -> None:
    folder = tmp_path / "new"
    with pytest.raises((TypeError, ValueError), match="JSON"):
        write(Artifact("x", header), folder / "x")
    assert not folder.exists()


@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()])
def test_a_failing_save_leaves_neither_a_file_nor_a_temporary(
    tmp_path: Path, monkeypatch, error: BaseException
) -> None:
    def stumble(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise error

    path = write(example(), tmp_path / "old")
    before = path.read_bytes()
    monkeypatch.setattr(artifact, "save_file", stumble)
    for name in ("old", "new"):
        with pytest.raises(type(error)):
            write(example(), tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert path.read_bytes() == before


def test_saving_replaces_a_file_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x"
    write(Artifact("x", {"n": 1}), path)
    write(Artifact("x", {"n": 2}), str(path))
    assert read(str(path)).header == {"n": 2}
    assert [p.name for p in path.parent.iterdir()] == ["x"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_atomic_serves_any_format(tmp_path: Path) -> None:
    with atomic(tmp_path / "x.json") as temporary:
        temporary.write_text(json.dumps({}))
        assert not (tmp_path / "x.json").exists()
    assert (tmp_path / "x.json").read_text() == "{}"


# ---------------------------------------------------------------------------------------------- fingerprints


def test_a_fingerprint_is_that_of_the_weights_and_not_of_the_mode() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(), nn.BatchNorm1d(2))
    before = fingerprint(model)
    assert fingerprint(model.eval()) == before
    assert fingerprint(model.requires_grad_(False)) == before
    model(torch.randn(4, 3))
    assert fingerprint(model) == before


@given(st.data())
def test_any_changed_entry_of_a_small_network_changes_its_fingerprint(data: st.DataObject) -> None:
    model = Zoo()
    before = fingerprint(model)
    name = data.draw(st.sampled_from([name for name, _ in model.named_parameters()]))
    parameter = model.get_parameter(name)
    index = data.draw(st.integers(0, parameter.numel() - 1))
    with torch.no_grad():
        parameter.view(-1)[index] += 1.0
    after = fingerprint(model)
    assert after["weights"] != before["weights"]
    assert after["architecture"] == before["architecture"]


def test_architecture_is_names_and_shapes() -> None:
    assert fingerprint(Zoo(0))["architecture"] == fingerprint(Zoo(1))["architecture"]
    assert fingerprint(nn.Linear(2, 3))["architecture"] != fingerprint(nn.Linear(3, 2))["architecture"]
    assert fingerprint(nn.Linear(2, 3))["architecture"] != fingerprint(nn.Sequential(nn.Linear(2, 3)))["architecture"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.bool])
def test_every_dtype_has_a_fingerprint(dtype: torch.dtype) -> None:
    model = nn.Module()
    model.register_parameter("x", nn.Parameter(torch.ones(3, 3).to(dtype).T, requires_grad=False))
    model.register_parameter("scalar", nn.Parameter(torch.tensor(1).to(dtype), requires_grad=False))
    model.register_parameter("empty", nn.Parameter(torch.ones(0).to(dtype), requires_grad=False))
    assert fingerprint(model) == fingerprint(model)
