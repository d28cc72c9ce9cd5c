"""Write a directory whole or not at all."""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

MARKER = "mnemotrace.json"


@contextmanager
def atomic_directory(path: str | Path, *, overwrite: bool = False) -> Generator[Path, None, None]:
    """Give a temporary directory beside `path`; it takes the final name on success and vanishes otherwise.

    Args:
        path: where the directory should be; its parents are made.
        overwrite: replace a directory that holds something. Only one that this library wrote is ever replaced: it
            must hold `mnemotrace.json`.

    Raises:
        FileExistsError: there is something at `path` that must not be replaced; nothing was written.
    """
    path = Path(path)
    check_free(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        new, old = work / "new", work / "old"
        new.mkdir()
        yield new
        check_free(path, overwrite=overwrite)
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_free(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise unless a directory may be written at `path`.

    Raises:
        FileExistsError: something is there.
    """
    path = Path(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not path.is_dir() or not overwrite:
        raise FileExistsError(
            f"got {path}, which exists; expected no or an empty directory; choose another name, or overwrite=True for "
            "a directory that mnemotrace wrote"
        )
    if not (path / MARKER).is_file():
        raise FileExistsError(
            f"got {path}, a directory without {MARKER}; expected one that mnemotrace wrote before it is replaced; "
            "choose another name, or remove it yourself"
        )
