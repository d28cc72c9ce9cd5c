import pytest

from mnemotrace.core.directory import MARKER, atomic_directory


def _fill(path, text="new", **options):
    with atomic_directory(path, **options) as folder:
        (folder / MARKER).write_text(text)


def test_a_directory_appears_whole_with_its_parents(tmp_path):
    _fill(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / MARKER).read_text() == "new"
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["b"]


def test_an_empty_directory_is_filled(tmp_path):
    (tmp_path / "a").mkdir()
    _fill(tmp_path / "a")
    assert (tmp_path / "a" / MARKER).read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_new_and_what_was_there(tmp_path, error):
    _fill(tmp_path / "a", "old")
    for name in ("a", "b"):
        with pytest.raises(error), atomic_directory(tmp_path / name, overwrite=True) as folder:
            (folder / "half").write_text("x")
            raise error
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a" / MARKER).read_text() == "old"


def test_what_exists_is_replaced_only_on_request(tmp_path):
    _fill(tmp_path / "a", "old")
    (tmp_path / "a" / "more").write_text("x")
    with pytest.raises(FileExistsError, match="expected no or an empty directory"):
        _fill(tmp_path / "a")
    _fill(tmp_path / "a", overwrite=True)
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == [MARKER]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_what_somebody_else_wrote_is_never_replaced(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match=r"folder, a directory without mnemotrace\.json"):
        _fill(tmp_path / "folder", overwrite=True)
    with pytest.raises(FileExistsError, match="which exists"):
        _fill(tmp_path / "file", overwrite=True)
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "mine"


def test_a_failed_rename_puts_the_old_directory_back(tmp_path, monkeypatch):
    _fill(tmp_path / "a", "old")
    path_type = type(tmp_path)
    rename = path_type.rename

    def fail(self, target):
        if self.name == "new":
            raise OSError("no space")
        return rename(self, target)

    monkeypatch.setattr(path_type, "rename", fail)
    with pytest.raises(OSError, match="no space"):
        _fill(tmp_path / "a", overwrite=True)
    assert (tmp_path / "a" / MARKER).read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
