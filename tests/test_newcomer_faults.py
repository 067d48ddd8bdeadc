"""What a newcomer met who typed what README, help and notebooks say: each fault once, so that it stays mended."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smtpkit.cli import main
from smtpkit.running import values
from tests.test_cli import _nbformat, notebook

Said = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMTPKIT_STATE", str(tmp_path / "state"))


def never(*_: object, **__: object) -> Any:
    """In the place of what must not be done."""
    pytest.fail("this should not have been called")


NOWHERE = {
    "a shipped name in a folder that is not there": ("my_dir/05_postmortem.ipynb", "is not there"),
    "a shipped name in a folder, without its ending": ("./05_postmortem", "is not there"),
    "a shipped name with another ending": ("05_postmortem.txt", "is not there"),
    "a file that is no notebook": ("README.md", "is no notebook"),
    "a folder": (".", "is no notebook"),
}


@pytest.mark.parametrize("name", NOWHERE)
def test_a_path_is_that_file_and_never_a_shipped_one(name: str, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    monkeypatch.setattr("smtpkit.running._execute", never)
    Path("README.md").write_text("# hello", "utf-8")
    given, why = NOWHERE[name]
    assert main(["run", given]) == 2
    assert f"'{given}' {why}; give a file that ends in .ipynb, or one of 00_start_here" in capsys.readouterr().err


PARAMETERS = """scenario: str | None = "hanmail"
provider, code = "Kakao", "421"
rounds, live = 5, False
recipient = None"""
GIVEN = {
    "a code": ("code", "550", "550"),
    "a reply": ("provider", "[1, 2]", "[1, 2]"),
    "a word that is also a truth": ("provider", "true", "true"),
    "no scenario": ("scenario", "None", None),
    "a scenario": ("scenario", "healthy", "healthy"),
    "text in quotes": ("code", '"421 busy"', "421 busy"),
    "a number": ("rounds", "12", 12),
    "a truth": ("live", "True", True),
    "a text that was none": ("recipient", "r@daum.example", "r@daum.example"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_parameter_whose_default_is_text_takes_text(name: str) -> None:
    cell = {"source": PARAMETERS, "metadata": {"tags": ["parameters"]}}
    parameter, typed, value = GIVEN[name]
    walk = SimpleNamespace(cells=[SimpleNamespace(**cell)])
    assert values("walk.ipynb", walk, {parameter: typed}) == {parameter: value}
