import pytest

from mnemotrace.modification.beliefs.accounts import Account, Version, checked

NAMES = ("mass", "drag", "time")


def _account() -> Account:
    first = Version({"time": ("mass",)}, 1, 0.4, "remembered")
    return Account(3, {"time": "short", "mass": "heavy"}, (first,), "at the tower")


def test_facts_cannot_be_rewritten() -> None:
    account = _account()
    with pytest.raises(TypeError):
        account.facts["time"] = "long"  # type: ignore[index]
    later = account.told(Version({"time": ("drag",)}, 5, 0.9, "revised"))
    assert later.facts == account.facts
    assert account.status == "held"
    assert later.status == "revised"


def test_it_tells_why() -> None:
    later = (
        _account()
        .told(Version({"time": ("drag", "mass")}, 5, 0.9, "revised"))
        .told(Version({"time": ()}, 6, 1.0, "revised"))
    )
    assert later.text(0) == "time = short because mass = heavy"
    assert later.text(1) == "time = short because drag and mass = heavy"
    assert later.text() == "time = short, for a reason that is not among the variables"
    assert later.versions[1].edges == (("drag", "time"), ("mass", "time"))


def test_it_goes_through_json() -> None:
    account = _account()
    assert Account.from_json(account.to_json()) == account


def test_names_that_are_not_there_are_refused() -> None:
    assert checked({"time": "short"}, {"time": "mass"}, NAMES) == {"time": ("mass",)}
    with pytest.raises(
        ValueError, match=r"got the names \['colour'\]; expected effects and causes among mass, drag, time"
    ):
        checked({"colour": "red"}, {"time": "mass"}, NAMES)
    with pytest.raises(ValueError, match="got no explanation"):
        checked({}, {}, NAMES)
    with pytest.raises(ValueError, match=r"got causes \('time',\) of time; expected other variables"):
        checked({}, {"time": ["time"]}, NAMES)
