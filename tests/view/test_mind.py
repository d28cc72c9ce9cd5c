"""What the page says of one mind."""

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import mind


def packed() -> Artifact:
    """Two memories: one changed by a telling, one of which the detail is gone."""
    world = [{"name": "who", "role": "gist", "values": ["Ana", "Ben"]}]
    world += [{"name": "smell", "role": "detail", "values": ["tar", "soap"]}]
    traces = {
        "0": {"event": "loss", "time": 1.2, "lived": {"who": "Ana", "smell": "tar"}, "replays": 40},
        "1": {"event": "nets", "time": 1.5, "lived": {"who": "Ben", "smell": "soap"}, "replays": 12},
    }
    left = {
        "0": {"who": ["Ana", 0.9, "episode"], "smell": ["soap", 0.7, "episode"]},
        "1": {"who": ["Ben", 0.8, "graph"]},
    }
    log = [
        {"act": "night", "time": 2.0},
        {"act": "retell", "time": 2.1, "about": 0, "regime": "updated", "changed": {"smell": ["tar", "soap"]}},
        {"act": "understand", "time": 2.2, "note": "trial", "revised": [0]},
        {"act": "operation", "time": 3.0},
        {"act": "recall", "time": 3.0},
    ]
    header = {"world": world, "traces": traces, "left": left, "log": log, "now": 3.0, "operated": True}
    return Artifact("mind", header | {"lesion": {"name": "hm"}}, {})


def test_a_summary_says_who_and_how_much_is_left() -> None:
    said = dict(mind.summary(packed()))
    assert said["mind"] == "hm" and said["hippocampus"] == "lost" and said["nights"] == said["recalls"] == "1"
    assert said["still as lived"] == "2 of 4 values that were perceived"


def test_the_table_says_what_is_left_of_each_memory_and_what_is_not() -> None:
    headings, rows = mind.table(packed())
    assert rows == [
        ("loss", "1.2", "Ana", "soap", "smell tar is now soap", "40"),
        ("nets", "1.5", "Ben", "–", "smell soap is gone", "12"),
    ]
    assert len(headings) == len(rows[0])


def test_remarks_tell_what_changed_memories() -> None:
    told = mind.remarks(packed())
    assert told[0] == "Day 2.1: loss was told again and updated (smell: tar to soap)."
    assert told[1].endswith("understood otherwise: loss.") and "lost" in told[2] and len(told) == 3


def test_the_figure_holds_every_cell_and_can_be_drawn() -> None:
    figure = mind.figure(packed())
    assert figure is not None and "<svg" in figure.svg() and len(figure.rows) == 4
    assert ("loss", "smell", "tar", "soap", 0.7) in figure.rows


def test_a_file_without_memories_has_no_figure() -> None:
    bare = Artifact("mind", {}, {})
    assert mind.figure(bare) is None and mind.table(bare)[1] == [] and mind.remarks(bare) == []
    assert dict(mind.summary(bare))["still as lived"] == "–"
