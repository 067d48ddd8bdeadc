"""Plain mistakes of a caller: an InvalidInput with the value, before anything is sent, read or written."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import smtpkit as sk
from smtpkit.errors import InvalidInput
from tests.fake_network import FakeNetwork

FRAME = pd.DataFrame({"mx_ip": ["192.0.2.1"] * 4, "code": [250] * 4, "recipient": ["r@daum.example"] * 4})
FRAME["started_at"] = pd.date_range("2026-11-24", periods=4, freq="min", tz="UTC")
FOUND = sk.diagnose(FRAME)
BOOK = Path(tempfile.mkdtemp()) / "c.sqlite"
ME, YOU = "me@ours.example", "r@daum.example"


def mail(**more: Any) -> Any:
    return sk.build_message(**({"sender": ME, "to": YOU} | more))


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "an attachment that is not there": (lambda: mail(attachments="missing.pdf"), "missing.pdf"),
    "a picture that is not there": (lambda: mail(html="cid:x", inline={"x": Path("no.png")}), "no.png"),
    "nobody": (lambda: mail(to=None), "to None"),
    "attachments of no kind": (lambda: mail(attachments=5), "attachments 5"),
    "a recipient that is a number": (lambda: sk.send(b"Subject: x\n\nx\n", 5, sender=ME), "recipients 5"),
    "an allow-list of nothing": (lambda: sk.Guard(allow_to=None), "allow_to None"),
    "name servers of nothing": (lambda: sk.internet(nameservers=None), "nameservers None"),
    "a casebook of nothing": (lambda: sk.internet(casebook=None), "casebook None"),
    "a casebook that is a number": (lambda: sk.Casebook(5), "casebook 5"),
    "a casebook for a probe": (lambda: sk.probe("daum.example", casebook=3.5), "casebook 3.5"),
    "a remark's time as text": (lambda: sk.Casebook(BOOK).note("x", at="2026-11-24 09:00"), "2026-11-24 09:00"),
    "a chart of a diagnosis": (lambda: sk.plot.grid(FOUND), "Diagnosis"),
    "a chart of nothing": (lambda: sk.plot.forest(None), "NoneType"),
    "style of a diagnosis": (lambda: sk.style(FOUND), "Diagnosis"),
    "redact of text": (lambda: sk.redact("abc"), "str"),
    "the second cause as text": (lambda: sk.report(FOUND, which="second"), "second"),
    "own as a number": (lambda: sk.report(FOUND, own=5), "own 5"),
    "a report to a number": (lambda: sk.report(FOUND, 5), "path 5"),
    "no log": (lambda: sk.read_log(None), "paths None"),
    "no bounce": (lambda: sk.read_bounces(None), "paths None"),
    "a bounce without a name": (lambda: sk.read_bounces(""), "paths ''"),
    "bounces of an empty list": (lambda: sk.read_bounces([]), "paths []"),
    "no table": (lambda: sk.read_table(None), "table None"),
    "a table that is a list": (lambda: sk.read_table([]), "table []"),
    "no domain": (lambda: sk.lookup_mx(None, FakeNetwork({})), "domain None"),
    "an address as a domain": (lambda: sk.lookup_mx("192.0.2.1", FakeNetwork({})), 'server=("192.0.2.1", 25)'),
    "a literal as a domain": (
        lambda: sk.probe("[IPv6:2001:db8::1]", network=FakeNetwork({})),
        'server=("2001:db8::1", 25)',
    ),
    "controls that are a number": (lambda: sk.whoami(FakeNetwork({}), controls=5), "controls 5"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_plain_mistake_is_told_with_its_value(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call, value = WRONG[name]
    with pytest.raises(InvalidInput) as told:
        call()
    assert value in str(told.value)
    assert ";" in str(told.value), "it says what to do next"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [lambda p: sk.report(FOUND, p), lambda p: sk.Casebook(BOOK).export(p)])
def test_a_file_is_no_folder(write: Callable[[Path], Any], tmp_path: Path) -> None:
    there = tmp_path / "letter"
    there.write_text("mine", encoding="utf-8")
    with pytest.raises(InvalidInput, match="is a file"):
        write(there)
    assert there.read_text(encoding="utf-8") == "mine"


def test_what_a_frame_lacks_is_no_mistake() -> None:
    said = "550 5.1.1 no such user"
    for none in (np.nan, pd.NA, None):
        assert sk.classify(said, code=none, enhanced=none, stage=none, mx_host=none) == sk.classify(said)


@pytest.mark.parametrize(
    ("code", "reason"), [(250.0, "unknown"), (np.int64(550), "mailbox_full"), ("550", "mailbox_full")]
)
def test_a_code_may_be_of_any_kind(code: Any, reason: str) -> None:
    assert sk.classify("mailbox full", code).reason == reason


def test_this_folder_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.eml").write_text("Subject: failure\n\n<r@d.example>:\n550 5.1.1 no such user\n")
    assert len(sk.read_bounces(".")) == len(sk.read_bounces(Path())) == 1


def test_one_column_may_be_styled() -> None:
    assert "192.0.2.1" in sk.style(FRAME.mx_ip.value_counts()).to_html()


def test_one_address_may_be_kept_as_text() -> None:
    assert list(sk.redact(FRAME, keep=YOU).recipient) == [YOU] * 4


def test_a_route_says_what_was_left_out() -> None:
    zone = {"many.example": {"MX": [f"10 mx{n}.many.example" for n in range(150)]}}
    zone |= {f"mx{n}.many.example": {"A": [f"198.51.100.{n}"]} for n in range(150)}
    route = sk.lookup_mx("many.example", FakeNetwork(zone))
    assert f"{route.cut} beyond our caps left out" in repr(route)
    assert route.cut > 0
