"""A verdict on the page: every measure in its readings, before and after, with its interval."""

from mnemotrace.core.artifact import Artifact
from mnemotrace.view.figures import figures_of
from mnemotrace.view.sections import sections
from mnemotrace.view.tables import summary, table


def test_the_table_has_the_three_readings_first_and_every_measure_once(artifacts) -> None:
    headings, rows = table(artifacts["verdict"])
    assert headings == ("measure", "read", "untouched", "edited", "95 % interval", "n")
    assert rows[0] == ("efficacy", "by itself", "0", "0.9", "0.85 to 0.95", "16")
    assert [row[:2] for row in rows] == [
        *(("efficacy", read) for read in ("by itself", "teacher-forced", "probability")),
        *(("locality", read) for read in ("by itself", "teacher-forced", "probability")),
        ("efficacy", "prefers it"),
        ("score", ""),
        ("perplexity, ratio", ""),
    ]
    assert rows[-1][2:5] == ("–", "1.02", "0.97 to 1.07")


def test_a_measure_that_nobody_knows_is_listed_too(artifacts, changed) -> None:
    rows = table(changed(artifacts["verdict"], measures={"efficacy_mood": {"value": 0.5}}))[1]
    assert rows == [("efficacy_mood", "", "–", "0.5", "–", "–")]


def test_the_summary_goes_from_before_to_after(artifacts) -> None:
    told = dict(summary(artifacts["verdict"]))
    assert told["facts"] == "16"
    assert told["efficacy"] == "0 → 0.9 (0.85 to 0.95)"
    assert told["locality"] == "0.9 (0.85 to 0.95)"


def test_the_figure_shows_the_readings_beside_the_untouched_network(artifacts) -> None:
    figure = figures_of(artifacts["verdict"])[0]
    assert figure.columns == ("measure", "untouched, by itself", "probability", "teacher-forced", "by itself")
    assert figure.rows == (("efficacy", 0.0, 0.8, 0.95, 0.9), ("locality", None, 0.8, 0.95, 0.9))
    assert ">teacher-forced</text>" in figure.svg()


def test_the_section_says_how_far_the_other_readings_flatter(artifacts) -> None:
    (section,) = sections([artifacts["verdict"]])
    assert section.title == "Judge"
    assert section.remarks == [
        "By itself the edited network gives the wanted answer to 90\u00a0% of the prompts; "
        "teacher-forced to 95\u00a0%.",
        "Perplexity of other text: 1.02 times what it was.",
    ]
    assert [numbers.caption for numbers in section.numbers] == ["Every measure", "Scores while relearning"]


def test_without_measures_there_is_nothing_to_draw() -> None:
    assert figures_of(Artifact("verdict", {"measures": {}})) == []
    assert sections([Artifact("verdict", {})])[0].remarks == []
