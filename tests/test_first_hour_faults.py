"""What a newcomer met who typed what README, help and notebooks say: each fault once, so that it stays mended."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit.catalogue import render
from smtpkit.cli import main
from smtpkit.lab import names
from smtpkit.running import shipped, values
from tests.test_cli import _nbformat, notebook
from tests.test_house import READMES, ROOT, blocks
from tests.test_notebooks import cells, source, walked

pytestmark = pytest.mark.slow

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
def test_a_path_is_never_a_shipped_notebook(name: str, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    monkeypatch.setattr("smtpkit.running._execute", never)
    Path("README.md").write_text("# hello", "utf-8")
    given, why = NOWHERE[name]
    assert main(["run", given]) == 2
    assert f"'{given}' {why}; give a file that ends in .ipynb, or one of 00_start_here" in capsys.readouterr().err


PARAMETERS = """scenario: str | None = "hanmail"
provider, code = "Kakao", "421"
rounds, live = 5, False
recipient: str | None = None
sk.options.name = "text"
lists = ["421"]"""
GIVEN = {
    "a code": ("code", "550", "550"),
    "a reply": ("provider", "[1, 2]", "[1, 2]"),
    "a word that is also a truth": ("provider", "true", "true"),
    "no scenario": ("scenario", "None", None),
    "a scenario": ("scenario", "healthy", "healthy"),
    "text in quotes": ("code", '"421 busy"', "421 busy"),
    "a number": ("rounds", "12", 12),
    "a truth": ("live", "True", True),
    "a list of text": ("lists", '["550"]', ["550"]),
    "a text that was none": ("recipient", "r@daum.example", "r@daum.example"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_parameter_whose_default_is_text_takes_text(name: str) -> None:
    cell = {"source": PARAMETERS, "metadata": {"tags": ["parameters"]}}
    parameter, typed, value = GIVEN[name]
    walk = SimpleNamespace(cells=[SimpleNamespace(**cell)])
    assert values("walk.ipynb", walk, {parameter: typed}) == {parameter: value}


@pytest.mark.parametrize("text", ["[]", "5", '{"cells": [3], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}'])
def test_json_that_is_no_notebook_cannot_be_read(text: str, capsys: Said) -> None:
    Path("plain.ipynb").write_text(text, "utf-8")
    assert main(["run", "plain.ipynb"]) == 2
    assert "'plain.ipynb' cannot be read: it is JSON, but no notebook;" in capsys.readouterr().err


def test_a_cell_of_parameters_that_is_no_python_is_told(capsys: Said) -> None:
    assert main(["run", notebook(Path("walk.ipynb"), "rounds = = 1", "1 / 0")]) == 2
    assert "'walk.ipynb' cannot be read: its cell of parameters is no Python: invalid" in capsys.readouterr().err
    assert not Path("walk.done.ipynb").exists()


@pytest.mark.slow
def test_a_kernel_that_dies_is_told_in_a_line_and_the_notebook_is_kept(capsys: Said) -> None:
    assert main(["run", notebook(Path("walk.ipynb"), "print(6 * 7)", "import os; os._exit(3)")]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("wrote walk.done.ipynb\n", "smtpkit: walk: Kernel died\n")
    assert _nbformat().read("walk.done.ipynb", as_version=4).cells[0].outputs[0].text == "42\n"


@pytest.mark.slow
def test_ctrl_c_ends_a_run_in_a_line_and_the_notebook_is_kept() -> None:
    made = notebook(Path("walk.ipynb"), "print(6 * 7)", "open('begun', 'w').close()\nimport time; time.sleep(99)")
    command = [sys.executable, "-m", "smtpkit.cli", "run", made]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        while not Path("begun").exists():
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=60) == ("wrote walk.done.ipynb\n", "smtpkit: interrupted\n")
    assert process.returncode == 130
    assert _nbformat().read("walk.done.ipynb", as_version=4).cells[0].outputs[0].text == "42\n"


TAKEN = {
    "the notebook itself": (["--out", "walk.ipynb"], "'walk.ipynb' is the notebook itself; give another name"),
    "the same by another path": (["--out", "../here/walk.ipynb"], "is the notebook itself"),
    "the page's name": (["--out", "walk.html", "--html"], "'walk.html' is where the page goes; end it in .ipynb"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_run_writes_over_neither_itself_nor_its_page(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setattr("smtpkit.running._execute", never)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = Path(notebook(Path("walk.ipynb"), "rounds = 1")).read_bytes()
    more, words = TAKEN[name]
    assert main(["run", "walk.ipynb", *more]) == 2
    assert words in capsys.readouterr().err
    assert Path("walk.ipynb").read_bytes() == before


def test_a_probe_as_json_has_its_times_to_the_microsecond(capsys: Said) -> None:
    """.example is a reserved name: no real name server is asked."""
    assert main(["probe", "nobody.example", "--json"]) == 1
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert [pd.Timestamp(row["started_at"])] == list(sk.Casebook("casebook.sqlite").attempts().started_at)


def test_a_demo_that_has_no_folder_to_write_to_is_not_begun(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    monkeypatch.setattr("smtpkit.Lab", never)
    Path("README.md").write_text("# hello", "utf-8")
    assert main(["demo", "--out", "README.md"]) == 2
    assert "'README.md' is no folder; give a folder for the report, or leave" in capsys.readouterr().err


@pytest.mark.parametrize("name", READMES)
def test_pages_are_written_as_what_they_say_they_are(name: str) -> None:
    """Windows writes cp1252 or cp949 where nobody says otherwise."""
    opened = [line for block in blocks(name) for line in block.splitlines() if "open(" in line]
    assert opened
    assert all('encoding="utf-8"' in line for line in opened)


STALE = "01_one_stale_mx"


@pytest.mark.slow
def test_the_flagship_takes_every_verdict_that_accuses_no_innocent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a probe cannot see (size, content, another sender) is no broken notebook."""
    monkeypatch.setattr(sk, "report", lambda *_, **__: None)  # it draws: most of the time
    for scenario in names():
        with walked(STALE, scenario=scenario) as left:
            assert left["frame"].size, scenario


WRONG = {
    "an innocent server": ("mx_dead", [sk.Cause("mx_block", "mx_ip", ("192.0.2.13", "192.0.2.11"))]),
    "an innocent one that failed": ("provider_block", [sk.Cause("mx_block", "mx_ip", ("192.0.2.12",))]),
    "an innocent back end": ("balancer", [sk.Cause("mx_block", "backend", ("be1.mail.daum.example",))]),
    "nobody, where one is stale": ("stale_blacklist", []),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_flagship_breaks_over_a_wrong_verdict(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, causes = WRONG[name]
    monkeypatch.setattr(sk, "diagnose", lambda frame: sk.Diagnosis(tuple(causes), name, frame=frame))
    monkeypatch.setattr(sk, "report", lambda *_, **__: None)
    with pytest.raises(AssertionError, match=name), walked(STALE, scenario=scenario):
        pass


@pytest.mark.parametrize("scenario", ["mx_slow", "mx_dead"])
def test_the_flagship_holds_in_the_real_world(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with sk.Lab(scenario) as lab:
        monkeypatch.setattr(sk, "internet", lambda **_: lab.network)
        whom = {"domain": lab.domain, "recipient": lab.recipient, "sender": lab.sender}
        with walked(STALE, scenario=None, **whom) as left:
            assert [(c.kind, c.values) for c in left["found"].causes] == [(c.kind, c.values) for c in lab.truth]


@pytest.mark.parametrize(("live", "mails"), [(False, 0), (True, 1)])
def test_the_first_walk_delivers_the_one_mail_that_was_asked_for(
    live: bool, mails: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run delivers no second one."""
    with sk.Lab("healthy") as lab:  # it takes a mail without any header, too
        monkeypatch.setattr(sk, "internet", lambda guard: setattr(lab.network, "guard", guard) or lab.network)
        whom = {"domain": lab.domain, "recipient": lab.recipient, "sender": lab.sender}
        for outcome in ("accepted" if live else "withheld", "withheld"):
            with walked("00_start_here", scenario=None, live=live, **whom) as left:
                assert list(left["sent"].outcome) == [outcome]
        assert [b"\r\nMessage-ID: " in mail.octets for mail in lab.mailbox] == [True] * mails


def test_the_first_walk_delivers_nothing_before_live_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with sk.Lab("healthy") as lab:
        monkeypatch.setattr(sk, "internet", lambda guard: setattr(lab.network, "guard", guard) or lab.network)
        whom = {"domain": lab.domain, "recipient": lab.recipient, "sender": lab.sender}
        with walked("00_start_here", scenario=None, **whom):
            assert lab.mailbox == []


@pytest.mark.parametrize(
    "given", [{}, {"live": False}, {"scenario": "healthy"}, {"scenario": "stale_421"}], ids=str
)
def test_the_first_walk_takes_what_its_parameters_offer(given: dict[str, object]) -> None:
    with walked("00_start_here", **given) as left:
        assert list(left["sent"].outcome) == ["accepted"]
        assert left["answer"].code in (250, 554)


def test_the_first_walk_says_that_nobody_takes_the_mail() -> None:
    with (
        pytest.raises(AssertionError, match="no server takes its mail"),
        walked("00_start_here", scenario="null_mx"),
    ):
        pass


def test_a_second_day_by_hand_looks_at_its_own_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    with sk.Lab("stale_blacklist") as lab:
        monkeypatch.setattr(sk, "internet", lambda **_: lab.network)  # one casebook, as in the real world
        for day in (1, 2):
            with walked("02_by_hand", scenario=None) as left:
                said = left["rows"].groupby("mx_ip").outcome.agg(set).to_dict()
                assert said == {"192.0.2.14": {"rejected"}, "192.0.2.11": {"passed", "withheld"}}
                assert len(sk.Casebook(lab.network.casebook).attempts()) == day * len(left["rows"])


@pytest.mark.parametrize("name", READMES)
def test_each_call_of_the_readmes_table_is_in_the_notebook_it_names(name: str) -> None:
    found = re.findall(r"^\|.*\| (`sk\..*) \| ([\d, ]+|-) \|$", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    assert len(found) == 10
    code = {key[:2]: "\n".join(source(c) for c in cells(key) if c["cell_type"] == "code") for key in shipped()}
    for calls, numbers in found:
        named = code.values() if numbers == "-" else [code[number] for number in numbers.split(", ")]
        for call in re.findall(r"sk\.(\w+)", calls):
            assert any(f".{call}(" in text for text in named) == (numbers != "-"), f"{call}: {numbers}"


@pytest.mark.parametrize("name", READMES)
def test_the_readme_says_where_the_examples_are(name: str, capsys: Said) -> None:
    """That each command's help has one is held by test_cli."""
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert ("Exit codes:" in said, "example:" in said) == (True, False)
    assert "`smtpkit COMMAND --help`" in (ROOT / name).read_text("utf-8")


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_a_letter_points_to_its_table_only_where_that_goes_along(lang: str) -> None:
    with sk.Lab("stale_blacklist") as lab:
        found = sk.diagnose(sk.probe(lab.domain, lab.recipient, lab.sender, network=lab.network))
    for path in ("letter.md", "letter.html", "letter.eml", "letter", None):
        packet = sk.report(found, path, lang=lang)  # type: ignore[arg-type]  # one of the two, above
        assert ("counted_as" in (packet.letter or "")) == (path in ("letter.eml", "letter", None)), path
        assert "(u-...)" in (packet.letter or "")
    assert "counted_as" in Path("letter/letter.md").read_text("utf-8")
    assert "attempts.csv" not in Path("letter.md").read_text("utf-8")


def test_the_first_notebook_of_a_lab_is_sound_whatever_its_name() -> None:
    name = "C:\\new\\'a\" 한국.toml"
    text = render("lab.ipynb", scenario=name, place=repr(name), about='<b> & "q"\nline')
    made = _nbformat().reads(text, as_version=4)
    _nbformat().validate(made)
    code = ast.parse(made.cells[1].source)
    assert name in [node.value for node in ast.walk(code) if isinstance(node, ast.Constant)]
    assert made.cells[0].source.endswith('<b> & "q"\nline')
