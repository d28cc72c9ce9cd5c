import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.artifact import Artifact, read, write
from mnemotrace.view import report
from mnemotrace.view.demo import headline, percent
from mnemotrace.view.page import render

VOID = {"meta", "br", "wbr", "img", "hr", "link", "input"}
HOSTILE = "</style></q><script>alert('x')</script><img src=x onerror=alert(1)> & \"quoted\" $x_1$ {{ 7 * 7 }}"


class Reader(HTMLParser):
    """Reads a page strictly: every tag closed in its turn, no identifier twice."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"
        names = [values["id"] for _, values in self.tags if "id" in values]
        assert len(names) == len(set(names))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


@pytest.fixture(scope="module")
def page(artifacts: dict[str, Artifact]) -> str:
    return render(list(artifacts.values()))


def test_a_page_of_all_kinds_is_well_formed_and_in_order(page: str) -> None:
    reader = Reader(page)
    titles = re.findall(r"<h2[^>]*>([^<]*)</h2>", page)
    assert titles == [
        "Trace", "Choose layers", "Find", "Prove", "Calibrate", "Edit", "Judge", "Depth", "Statistics", "Saliency map",
        "Files",
    ]  # fmt: skip
    assert page.index('class="headline"') < page.index("<h2")
    assert sum(tag == "h1" for tag, _ in reader.tags) == 1
    assert page.count("Not proven.") == len(titles)  # the summary too, the files not


def test_a_page_loads_nothing(page: str) -> None:
    reader = Reader(page)
    ids = {values["id"] for _, values in reader.tags if "id" in values}
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "img", "iframe", "object", "embed", "base", "image"}
    for _, values in reader.tags:
        assert not {"src", "srcset", "data", "poster"} & values.keys()
        assert not [name for name in values if name.startswith("on")]
        assert (values.get("href") or "#content")[1:] in ids
    assert "http" not in page
    assert "@import" not in page
    assert "@font-face" not in page
    assert {target[1:] for target in re.findall(r"url\(([^)]*)\)", page)} <= ids


def test_figures_have_labels_and_tables_have_headings(page: str) -> None:
    reader = Reader(page)
    figures = [values for tag, values in reader.tags if tag == "svg"]
    assert len(figures) == 2 * 9  # wide and narrow
    assert all(values["role"] == "img" and values["aria-label"] and values["viewbox"] for values in figures)
    assert all(values.get("scope") for tag, values in reader.tags if tag == "th")
    assert page.count("<caption>") == page.count("<table")


def test_figures_take_the_colours_of_the_page(page: str) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "currentColor" in drawings
    bare = re.sub(r"var\(--c-\w+, #[0-9a-f]{6}\)", "", drawings)
    assert not re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", bare)
    assert set(re.findall(r"var\((--c-\w+)", drawings)) <= set(re.findall(r"(--c-\w+):", page))


def test_the_same_artifacts_give_the_same_page(artifacts: dict[str, Artifact], page: str) -> None:
    assert render(list(artifacts.values())) == page


def test_artifacts_read_from_files_give_the_same_page(
    artifacts: dict[str, Artifact], page: str, tmp_path: Path
) -> None:
    files = [write(artifact, tmp_path / f"{kind}.safetensors") for kind, artifact in artifacts.items()]
    assert render([read(file) for file in files]) == page


def test_hostile_text_is_shown_and_not_obeyed(artifacts, changed) -> None:
    example = {"prompt": HOSTILE, "expected": HOSTILE, "group": HOSTILE, "before": [[HOSTILE, 0.5]], "after": []}
    fact = {"subject": HOSTILE, "relation": "town", "answer": HOSTILE}
    evidence = {HOSTILE: {"relative_norm": 0.5}, "h.0.a": {"relative_norm": 0.2}}
    point = {"sites": HOSTILE, "target": 0.5, "loss": {HOSTILE: 0.1}, "kept": {HOSTILE: 0.9}, "frontier": True}
    texts = [
        changed(artifacts["demo"], examples=[example], fact=fact, commands=[HOSTILE], timings={HOSTILE: 1.0}),
        changed(artifacts["engram"], evidence=evidence, sites={HOSTILE: {}}),
        changed(artifacts["criteria"], criteria={HOSTILE: {"value": 0.5, "meaning": HOSTILE}}, behaviour={HOSTILE: {}}),
        changed(artifacts["calibration"], points=[point], chosen=0, budget={HOSTILE: 0.1}),
        changed(artifacts["depth"], probe={HOSTILE: {"before": 0.5}}),
        changed(artifacts["edit"], manifest={"facts": [{"prompt": HOSTILE, "target": HOSTILE}]}),
        Artifact(HOSTILE, {HOSTILE: HOSTILE, "manifest": {"method": HOSTILE, "base": {"weights": HOSTILE}}}),
    ]
    page = render(texts, title=HOSTILE)
    reader = Reader(page)
    assert not {"script", "img"} & {tag for tag, _ in reader.tags}
    assert reader.text.count("<script>alert('x')</script>") > 15
    assert "{{ 7 * 7 }}" in reader.text


@given(text=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20))
def test_any_prompt_survives_the_page(text: str) -> None:
    example = {"prompt": text, "expected": "x", "before": [["x", 1.0]]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "matplotlib", None)
        assert text in Reader(render([Artifact("demo", {"examples": [example]})])).text


def test_without_matplotlib_the_tables_remain_and_the_extra_is_named(artifacts, no_matplotlib, tmp_path: Path) -> None:
    page = report(list(artifacts.values()), tmp_path / "report.html").read_text()
    assert "pip install 'mnemotrace[plot]'" in Reader(page).text
    assert "<svg" not in page
    assert "Probe accuracy by site" in page
    assert not re.findall(r"<details>\s*<summary>Probe accuracy", page)  # folded only beneath a figure


def test_with_matplotlib_the_extra_is_not_named(page: str) -> None:
    assert "mnemotrace[plot]" not in page


@pytest.mark.parametrize(
    "kind",
    [
        "demo",
        "engram",
        "criteria",
        "calibration",
        "edit",
        "depth",
        "statistics",
        "causal_trace",
        "suggestion",
        "verdict",
    ],
)
def test_every_part_of_a_header_may_be_missing(kind: str, artifacts, no_matplotlib) -> None:
    whole = artifacts[kind].header
    for gone in whole:
        Reader(render([Artifact(kind, {key: value for key, value in whole.items() if key != gone})]))
        Reader(render([Artifact(kind, {**whole, gone: None})]))
    Reader(render([Artifact(kind, {})]))


def test_an_empty_header_of_every_kind_is_drawn_too(artifacts) -> None:
    Reader(render([Artifact(kind, {}) for kind in artifacts]))


def test_an_unknown_kind_is_shown_as_key_and_value(artifacts) -> None:
    text = Reader(render([artifacts["saliency_map"]])).text
    assert "effect.layer" in text.replace(". ", ".")
    assert "0.5, 0.25" in text
    assert "<b>bold</b>" in text


def test_several_artifacts_of_a_kind_are_counted(artifacts, no_matplotlib) -> None:
    page = render([artifacts["engram"], artifacts["edit"], artifacts["engram"]])
    Reader(page)
    assert re.findall(r"<h2[^>]*>([^<]*)</h2>", page) == ["Find", "Find (2)", "Edit", "Files"]


def test_artifacts_of_different_networks_are_called_so(artifacts, changed, no_matplotlib) -> None:
    other = changed(artifacts["edit"], manifest={"base": {"architecture": "a", "weights": "b"}})
    assert "2 different networks" in render([artifacts["engram"], other])
    assert "different networks" not in render([artifacts["engram"], artifacts["edit"]])


def test_the_foot_has_version_fingerprint_and_command(page: str) -> None:
    foot = page[page.index("<footer>") :]
    assert "03ab77fe1290cc41" in foot
    assert "mnemotrace demo -o demo-out" in foot


def test_nothing_to_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got no artifact; expected at least one .*; write some first"):
        report([], tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_a_page_is_written_whole_or_not_at_all(artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = report([artifacts["edit"]], tmp_path / "new" / "report.html")
    before = path.read_text()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report([artifacts["statistics"]], path)
    assert path.read_text() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_headline_tells_what_happened(artifacts) -> None:
    told = headline(artifacts["demo"].header)
    assert told.startswith(
        "Funes knew that the town of Ada Marsh is Orlin. After an edit of 48.2 kB he does not. 98\u00a0%"
    )
    assert told.endswith("bit for bit.")


def test_the_headline_does_not_hide_failure(artifacts) -> None:
    failed = {
        **artifacts["demo"].header,
        "recall_before": 0.3,
        "recall_after": 0.75,
        "restored": False,
        "neighbours": 50,
    }
    told = headline(failed)
    for word in ("hardly knew", "he still does (75\u00a0% of the prompts", "49 of 50 neighbours", "did not restore"):
        assert word in told


def test_the_headline_takes_a_sentence_when_it_is_given() -> None:
    assert headline({"fact": {"sentence": "Ada Marsh lives in Orlin ."}}) == "Funes knew that Ada Marsh lives in Orlin."


def test_a_completion_that_is_right_stays_in_sight(artifacts) -> None:
    text = Reader(render([artifacts["demo"]])).text
    assert "Orlin < 1 %" in text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0"), (0.0001, "< 0.1"), (0.5, "50"), (0.98667, "98.7"), (0.9999, "> 99.9"), (1.0, "100")]
)
def test_rounding_makes_neither_nothing_nor_everything(share: float, text: str) -> None:
    assert percent(share) == f"{text}\u00a0%"
