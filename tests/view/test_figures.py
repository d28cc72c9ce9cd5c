import csv
import re
from pathlib import Path

import pytest

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import Figure, figures_of, save
from mnemotrace.view.canvas import fit
from mnemotrace.view.figure import ALARM, NARROW
from mnemotrace.view.figures import kinds_of, own_budgets, without_stem


def figure(artifact: Artifact, index: int = 0) -> Figure:
    return figures_of(artifact)[index]


def spots(svg: str, colour: str) -> list[tuple[float, float]]:
    """Where markers of a colour are drawn, leaving out the legend above everything else."""
    marks = re.findall(rf'<use href="[^"]*" x="([-\d.]+)" y="([-\d.]+)" style="[^"]*{re.escape(colour)}', svg)
    return [(float(x), float(y)) for x, y in marks][:-1]


def text_of(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_every_kind_with_numbers_has_its_figures(artifacts) -> None:
    names = {kind: [figure.name for figure in figures_of(artifact)] for kind, artifact in artifacts.items()}
    found = {
        "engram": ["engram"],
        "criteria": ["criteria"],
        "calibration": ["frontier"],
        "depth": ["probe", "relearning"],
        "causal_trace": ["causal_trace"],
        "suggestion": ["suggestion"],
        "verdict": ["verdict", "relearning"],
    }
    assert names == dict.fromkeys(artifacts, []) | found


def test_the_heat_map_writes_each_sites_numbers_over_layer_and_kind(artifacts) -> None:
    drawn = figure(artifacts["engram"])
    texts = text_of(drawn.svg())
    for name, norm, leak, miss in drawn.rows:
        seen = artifacts["engram"].header["evidence"][name]
        assert (norm, leak, miss) == (seen["relative_norm"], seen["leak"], seen["miss"])
        assert f"{norm:.2f}" in texts
    assert [text for text in texts if text in ("attn.c_attn", "mlp.c_proj", "lm_head")] == [
        "attn.c_attn",
        "mlp.c_proj",
        "lm_head",
    ]
    assert texts.count("layer") == 3


def test_sites_without_layers_become_bars(artifacts, changed) -> None:
    evidence = {"input": {"relative_norm": 0.25}, "output": {"relative_norm": 0.75, "leak": None}}
    drawn = figure(changed(artifacts["engram"], evidence=evidence))
    assert drawn.title == "The trace by site"
    texts = text_of(drawn.svg())
    assert {"input", "output", "0.25", "0.75", "size"} <= set(texts)
    assert "leak" not in texts  # it was measured nowhere


def test_criteria_stand_where_their_values_are(artifacts) -> None:
    drawn = figure(artifacts["criteria"])
    assert [row[0] for row in drawn.rows] == ["specificity", "reactivation", "sufficiency", "necessity"]
    svg = drawn.svg()
    for column, colour in ((1, "var(--c-trace"), (4, "var(--c-control")):
        places, values = [x for x, _ in spots(svg, colour)], [row[column] for row in drawn.rows]
        assert len(places) == len(values)
        scale = (places[0] - places[2]) / (values[0] - values[2])
        for place, value in zip(places, values, strict=True):
            assert place - places[0] == pytest.approx(scale * (value - values[0]), abs=1e-3)


def test_the_frontier_shows_every_edit_and_marks_two(artifacts) -> None:
    drawn = figure(artifacts["calibration"])
    points = artifacts["calibration"].header["points"]
    assert [(row[3], row[4]) for row in drawn.rows] == [(p["target"], p["loss"]["neighbours"]) for p in points]
    texts = text_of(drawn.svg())
    assert {"chosen", "published", "within goal and budget", "worst loss elsewhere"} <= set(texts)
    assert "chosen: 0.01 left, worst loss 0.013" in drawn.label


def test_a_calibration_that_chose_nothing_marks_nothing(artifacts, changed) -> None:
    texts = text_of(figure(changed(artifacts["calibration"], chosen=None)).svg())
    assert "published" in texts
    assert "chosen" not in texts


def test_budgets_that_differ_make_losses_comparable_as_shares(artifacts, changed) -> None:
    assert own_budgets(artifacts["calibration"]) == {}
    drawn = figure(changed(artifacts["calibration"], budget={"neighbours": 0.1, "fluency": 0.01}))
    assert [row[4] for row in drawn.rows] == pytest.approx([0.05, 0.2, 0.65, 10.0])
    assert "as a share of its budget" in drawn.columns[4]


def test_more_site_sets_than_colours_are_gathered(artifacts, changed) -> None:
    point = {"target": 0.5, "loss": {"a": 0.01}, "frontier": False}
    points = [{**point, "sites": f"set {i}", "frontier": i == 9} for i in range(10)]
    texts = text_of(figure(changed(artifacts["calibration"], points=points, chosen=None, published=None)).svg())
    assert {"set 9", "other sites"} <= set(texts)
    assert len([text for text in texts if text.startswith("set")]) == 6


def test_depth_shows_probes_and_relearning_as_measured(artifacts) -> None:
    probe, relearning = figures_of(artifacts["depth"])
    header = artifacts["depth"].header
    assert [row[1:] for row in probe.rows] == [(s["before"], s["after"], s["naive"]) for s in header["probe"].values()]
    assert len(spots(probe.svg(), "var(--c-alarm")) == len(probe.rows)
    assert [row[2] for row in relearning.rows] == header["relearning"]["after"]
    heights = [y for _, y in spots(relearning.svg(), "var(--c-alarm")]
    assert heights == sorted(heights, reverse=True)  # the memory comes back: up is smaller


def test_curves_may_be_short_or_hold_what_is_not_a_number(artifacts, changed) -> None:
    curves = {"steps": [0, 1, 2], "after": [0.1, float("nan")], "naive": [None, 0.5, 0.6, 0.7]}
    drawn = figure(changed(artifacts["depth"], probe={}, relearning=curves))
    assert drawn.rows == ((0, 0.1, None), (1, None, 0.5), (2, None, 0.6))
    assert drawn.svg()


@pytest.mark.parametrize(
    "kind", ["engram", "criteria", "calibration", "depth", "causal_trace", "suggestion", "verdict"]
)
def test_a_narrow_figure_is_as_legible_as_a_wide_one(kind: str, artifacts) -> None:
    for drawn in figures_of(artifacts[kind]):
        svg = drawn.svg(NARROW)
        assert f'viewBox="0 0 {NARROW} ' in svg
        assert min(float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)) >= 9


@pytest.mark.parametrize("ending", [".svg", ".png"])
def test_saving_writes_the_numbers_beside_the_figure(ending: str, artifacts, tmp_path: Path) -> None:
    drawn = figure(artifacts["calibration"])
    image, numbers = save(drawn, tmp_path / f"frontier{ending}")
    start = b"\x89PNG" if ending == ".png" else b"<?xml"
    assert image.read_bytes().startswith(start)
    with numbers.open(newline="") as file:
        heading, *rows = csv.reader(file)
    assert tuple(heading) == drawn.columns
    assert [float(row[3]) for row in rows] == [row[3] for row in drawn.rows]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([image.name, numbers.name])


def test_saved_svg_has_plain_colours(artifacts, tmp_path: Path) -> None:
    image, _ = save(figure(artifacts["calibration"]), tmp_path / "frontier.svg")
    assert ALARM in image.read_text()
    assert "var(" not in image.read_text()


def test_saving_another_format_is_an_error(artifacts, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got figure\.pdf; expected a name that ends in \.svg or \.png"):
        save(figure(artifacts["criteria"]), tmp_path / "figure.pdf")


def test_drawing_changes_no_setting_of_matplotlib(artifacts) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figure(artifacts["criteria"]).svg()
    assert dict(mpl.rcParams) == before


def test_drawing_without_matplotlib_names_the_extra(artifacts, no_matplotlib) -> None:
    with pytest.raises(ImportError, match=r"pip install 'mnemotrace\[plot\]'"):
        figure(artifacts["criteria"]).svg()


def test_kinds_are_names_without_their_layer() -> None:
    assert kinds_of(["transformer.h.0.attn.c_attn", "transformer.h.11.mlp.c_fc", "lm_head", "h2.x"]) == {
        "transformer.h.0.attn.c_attn": "attn.c_attn",
        "transformer.h.11.mlp.c_fc": "mlp.c_fc",
        "lm_head": "lm_head",
        "h2.x": "h2.x",
    }
    two = kinds_of(["encoder.layers.0.fc", "decoder.layers.0.fc"])
    assert sorted(two.values()) == ["decoder.layers.fc", "encoder.layers.fc"]
    assert kinds_of(["0", "2"]) == {"0": "0", "2": "2"}


def test_a_common_stem_is_left_out_and_different_stems_are_kept() -> None:
    assert without_stem(["model.layers.0.a", "model.layers.10.b", "head"]) == ["0.a", "10.b", "head"]
    assert without_stem(["encoder.0.a", "decoder.0.a"]) == ["encoder.0.a", "decoder.0.a"]


def test_a_long_label_keeps_both_ends_within_its_room() -> None:
    text = fit("transformer.h.0.attn.c_attn", 90)
    assert len(text) <= 90 / 6.4
    assert text.startswith("tr")
    assert text.endswith("c_attn")
    assert fit("short", 90) == "short"
