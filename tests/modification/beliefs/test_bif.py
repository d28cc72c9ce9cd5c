"""Published networks are read as their files say, checked by a reader of three lines, and written back."""

import gzip
import re
from pathlib import Path

import pytest
import torch

from mnemotrace.modification.beliefs.bif import read_bif, write_bif

pytestmark = [
    pytest.mark.slow,  # pgmpy takes seconds to import
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize(
    ("name", "nodes", "arcs"), [("cancer", 5, 4), ("asia", 8, 8), ("child", 20, 25), ("alarm", 37, 46)]
)
def test_every_row_of_every_table_is_what_the_file_says(data_dir: Path, name: str, nodes: int, arcs: int) -> None:
    path = data_dir / f"bayesnets/{name}.bif.gz"
    net, rows = read_bif(path), 0
    assert (len(net), len(net.edges)) == (nodes, arcs)
    text = gzip.decompress(path.read_bytes()).decode()
    for block in re.finditer(r"probability\s*\(([^)]*)\)\s*\{(.*?)\}", text, re.DOTALL):
        child, *parents = re.findall(r"\w+", block[1])
        i = net.index(child)
        assert [net.names[j] for j in net.parents[i]] == parents
        for row in re.finditer(r"(?:\(([^)]*)\)|table)\s*([^;]*);", block[2]):
            held = [s.strip() for s in (row[1] or "").split(",") if s.strip()]
            place = tuple(net.states[net.index(v)].index(s) for v, s in zip(parents, held, strict=True))
            wanted = torch.tensor([float(x) for x in row[2].split(",")], dtype=torch.float64)
            torch.testing.assert_close(net.tables[i][place], wanted, rtol=0, atol=1e-6)  # printed digits
            rows += 1
    assert rows == sum(t[..., 0].numel() for t in net.tables)


@pytest.mark.parametrize("ending", ["bif", "bif.gz"])
def test_writing_and_reading_keeps_every_table(data_dir: Path, tmp_path: Path, ending: str) -> None:
    net = read_bif(data_dir / "bayesnets/child.bif.gz")
    again = read_bif(write_bif(net, tmp_path / f"child.{ending}"))
    assert set(again.names) == set(net.names)
    for i, name in enumerate(net.names):
        j = again.index(name)
        assert again.states[j] == net.states[i]
        assert [again.names[k] for k in again.parents[j]] == [net.names[k] for k in net.parents[i]]
        torch.testing.assert_close(again.tables[j], net.tables[i], rtol=0, atol=1e-12)


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bif(tmp_path / "none.bif")
    (tmp_path / "text.bif").write_text("nothing of the kind")
    with pytest.raises(ValueError, match="expected"):
        read_bif(tmp_path / "text.bif")
