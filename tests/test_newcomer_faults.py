"""What a newcomer met who typed what README, help and notebooks say: each fault once, so that it stays mended."""

from pathlib import Path
from typing import Any

import pytest

from smtpkit.cli import main
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
