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
from smtpkit.reply import Reply
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


ODD: tuple[Any, ...] = (5, -1, float("nan"), True, b"x", ["a"], {"a": 1}, FRAME.code, pd.NA, FRAME, object())
"""What is no text."""
TEXTS: dict[str, Callable[[Any], Any]] = {
    "probe helo": lambda odd: sk.probe("daum.example", network=FakeNetwork({}), helo=odd),
    "probe tls": lambda odd: sk.probe("daum.example", network=FakeNetwork({}), tls=odd),
    "probe until": lambda odd: sk.probe("daum.example", network=FakeNetwork({}), until=odd),
    "probe sender": lambda odd: sk.probe("daum.example", network=FakeNetwork({}), sender=odd),
    "probe recipient": lambda odd: sk.probe("daum.example", odd, ME, network=FakeNetwork({})),
    "probe case": lambda odd: sk.probe(network=FakeNetwork({}), server=("192.0.2.1", 25), case=odd),
    "probe server_name": lambda odd: sk.probe(network=FakeNetwork({}), server=("192.0.2.1", 25), server_name=odd),
    "locate sender": lambda odd: sk.locate("daum.example", network=FakeNetwork({}), sender=odd),
    "dialogue sender": lambda odd: sk.Dialogue(("192.0.2.1", 25), network=FakeNetwork({}), sender=odd),
    "preflight helo": lambda odd: sk.preflight("ours.example", network=FakeNetwork({}), helo=odd),
    "preflight ip": lambda odd: sk.preflight("ours.example", network=FakeNetwork({}), ip=odd),
    "preflight mail_from": lambda odd: sk.preflight("ours.example", network=FakeNetwork({}), mail_from=odd),
    "preflight selector": lambda odd: sk.preflight("ours.example", network=FakeNetwork({}), selector=odd),
    "internet source_ip": lambda odd: sk.internet(source_ip=odd),
    "internet socks": lambda odd: sk.internet(socks=odd),
    "internet label": lambda odd: sk.internet(label=odd),
    "subject": lambda odd: mail(subject=odd),
    "charset": lambda odd: mail(charset=odd),
    "header": lambda odd: mail().header(odd),
    "casebook case": lambda odd: sk.Casebook(BOOK).attempts(odd),
    "casebook session": lambda odd: sk.Casebook(BOOK).replies(odd),
    "letter lang": lambda odd: sk.report(FOUND, lang=odd),
    "letter sender": lambda odd: sk.report(FOUND, sender=odd),
    "letter ptr": lambda odd: sk.report(FOUND, ptr=odd),
    "letter tz": lambda odd: sk.report(FOUND, tz=odd),
    "table tz": lambda odd: sk.read_table(FRAME, tz=odd),
    "log mta": lambda odd: sk.read_log(__file__, mta=odd),
    "log tz": lambda odd: sk.read_log(__file__, tz=odd),
    "log into": lambda odd: sk.read_log(__file__, into=odd),
    "data": sk.data,
    "transcripts": sk.transcript.read_transcripts,
}
FLAGS: dict[str, Callable[[Any], Any]] = {
    "probe background": lambda odd: sk.probe("daum.example", network=FakeNetwork({}), background=odd),
    "send live": lambda odd: sk.send(b"Subject: x\n\nx\n", YOU, sender=ME, network=FakeNetwork({}), live=odd),
    "send again": lambda odd: sk.send(b"Subject: x\n\nx\n", YOU, sender=ME, network=FakeNetwork({}), again=odd),
    "dialogue live": lambda odd: sk.Dialogue(("192.0.2.1", 25), network=FakeNetwork({}), live=odd),
    "redact ips": lambda odd: sk.redact(FRAME, ips=odd),
    "export sanitize": lambda odd: sk.Casebook(BOOK).export("out", sanitize=odd),
    "attempts classify": lambda odd: sk.Casebook(BOOK).attempts(classify=odd),
}
NUMBERS: dict[str, Callable[[Any], Any]] = {
    "rounds": lambda n: sk.probe("daum.example", network=FakeNetwork({}), rounds=n),
    "most": lambda n: sk.locate("daum.example", network=FakeNetwork({}), most=n),
    "clear": lambda n: sk.watch("daum.example", network=FakeNetwork({}), casebook=BOOK, clear=n),
    "every": lambda n: sk.watch("daum.example", network=FakeNetwork({}), casebook=BOOK, every=n),
    "deadline": lambda n: sk.preflight("ours.example", network=FakeNetwork({}), deadline=n),
    "days": lambda n: sk.Casebook(BOOK).purge(n),
    "rows": lambda n: sk.style(FRAME, n),
    "year": lambda n: sk.read_log(__file__, year=n),
    "size_limit": lambda n: mail().lint(n),
    "dns_timeout": lambda n: sk.internet(dns_timeout=n),
    "wait": lambda n: sk.Timeouts(reply=n),
    "gap": lambda n: sk.Pace(ip_gap=n),
    "per_hour": lambda n: sk.Pace(per_hour=n),
    "rests": lambda n: sk.Pace(rests=(n,)),
    "max_messages": lambda n: sk.Guard(max_messages=n),
    "port": lambda n: sk.probe(network=FakeNetwork({}), server=("192.0.2.1", n)),
    "name server's port": lambda n: sk.internet(nameservers=[("192.0.2.1", n)]),
}
FRAMES: dict[str, Callable[[Any], Any]] = {
    "diagnose": sk.diagnose,
    "compare a": lambda odd: sk.compare(odd, FRAME),
    "compare b": lambda odd: sk.compare(FRAME, odd),
    "sessions": sk.counts.sessions,
    "endings": sk.counts.endings,
    "by_ip": sk.counts.by_ip,
    "grid": sk.plot.grid,
    "a diagnosis to draw": lambda odd: sk.plot.lanes(FRAME, odd),
    "axes": lambda odd: sk.plot.forest(FRAME, ax=odd),
    "seen": lambda odd: sk.locate("daum.example", network=FakeNetwork({}), seen=odd),
    "a letter's frame": lambda odd: sk.report(FOUND, frame=odd),
    "remarks": lambda odd: sk.plot.timeline(FRAME, notes=odd),
    "inline": lambda odd: mail(inline=odd),
    "headers": lambda odd: mail(headers=odd),
    "reroute": lambda odd: sk.internet(reroute=odd),
    "guard": lambda odd: sk.internet(guard=odd),
    "pace": lambda odd: sk.probe(network=FakeNetwork({}), server=("192.0.2.1", 25), pace=odd),
    "network": lambda odd: sk.lookup_mx("daum.example", odd),
    "executor": lambda odd: sk.read_log(__file__, executor=odd),
}
TABLE = {
    "text": (TEXTS, ODD),
    "flag": (FLAGS, ("no", "False", 1, 0, None, [], pd.NA, np.array([True, True]))),
    "number": (NUMBERS, ("3", -1, True, float("nan"), [5], b"3", pd.NA, pd.NaT, np.array([3, 4]))),
    "frame": (FRAMES, (5, "x", ["a"], b"x", np.arange(3), pd.Series(["a", "b"]), sk.Guard, object())),
}
CASES = [(kind, name, at) for kind, (calls, odd) in TABLE.items() for name in calls for at in range(len(odd))]


@pytest.mark.parametrize(("kind", "name", "at"), CASES)
def test_what_is_of_another_kind_is_told(
    kind: str, name: str, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A raw TypeError of a library says nothing of whose parameter it was; a `live="no"` would be a yes."""
    monkeypatch.chdir(tmp_path)
    calls, odd = TABLE[kind]
    with pytest.raises(InvalidInput) as told:
        calls[name](odd[at])
    assert len(str(told.value)) < 2000
    assert ";" in str(told.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", WRONG)
def test_a_plain_mistake_is_told_with_its_value(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call, value = WRONG[name]
    with pytest.raises(InvalidInput) as told:
        call()
    assert value in str(told.value)
    assert ";" in str(told.value), "it says what to do next"
    assert not list(tmp_path.iterdir())


WHOLE = "rounds most clear days rows year size_limit per_hour max_messages port".split()


@pytest.mark.parametrize("name", WHOLE)
def test_half_a_round_is_none(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"2\.5 is no whole number"):
        NUMBERS[name](2.5)


def test_numbers_of_numpy_are_numbers() -> None:
    pace = sk.Pace(per_hour=np.int64(3), ip_gap=np.float32(2), rests=(np.int64(60),))
    assert pace == sk.Pace(per_hour=3, ip_gap=2, rests=(60,))
    assert {type(pace.per_hour), type(sk.Timeouts(reply=np.int64(3)).reply)} == {int}
    assert sk.Guard(max_messages=np.int64(3)).max_messages == 3
    assert len(sk.style(FRAME, np.int64(2)).data) == 2
    assert sk.redact(FRAME, ips=np.bool_(True)).mx_ip.str.startswith("ip-").all()


ALSO: dict[str, tuple[Callable[[], Any], str]] = {
    "a server's name without a server": (
        lambda: sk.probe("daum.example", network=FakeNetwork({}), server_name="mx1.example"), "server_name 'mx1"),
    "several recipients of a probe": (
        lambda: sk.probe("daum.example", [YOU, ME], ME, network=FakeNetwork({})), "recipient \\['r@"),
    "a stage of no letters": (lambda: sk.probe("daum.example", network=FakeNetwork({}), until=""), "until ''"),
    "a number as a network": (lambda: sk.internet(allow_networks=[5]), "allow_networks 5"),
    "an empty key": (lambda: sk.redact(FRAME, key=""), "key '' is empty"),
    "a file's text for its name": (lambda: sk.read_table("time,ip,reply\n" * 99), "table 'time,ip"),
    "no columns to count by": (lambda: sk.counts.by(FRAME, []), "keys \\[\\]"),
    "a header that is 0": (lambda: mail(headers={"X-Count": 0}), "header X-Count 0"),
    "an attachment of octets": (lambda: mail(attachments=b"abc"), "attachment b'abc'"),
    "a place without a folder": (
        lambda: sk.preflight("ours.example", network=FakeNetwork({}), record="none/r.jsonl"), "record 'none"),
    "remarks without a text": (lambda: sk.plot.timeline(FRAME, notes=[("x",)]), "notes \\('x',\\)"),
    "one format by its letters": (lambda: sk.Casebook(BOOK).export("out", "xlsx"), "formats 'xlsx'"),
    "octets after EHLO": (lambda: Talk().ehlo(b"mail.ours.example"), "command b'mail"),
    "nobody to verify": (lambda: Talk().vrfy(None), "command None"),
}  # fmt: skip


class Talk(sk.Dialogue):
    """A dialogue that has not begun; nothing must be sent."""

    def __init__(self) -> None:
        self._in_message, self._tls, self._helo = False, "off", "x"


@pytest.mark.parametrize("name", ALSO)
def test_nothing_is_silently_left_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call, words = ALSO[name]
    with pytest.raises(InvalidInput, match=words):
        call()
    assert not list(tmp_path.iterdir())


def test_a_yes_is_not_any_text() -> None:
    """`live="no"` came from a form or a file: it was a yes, and the mail went out."""
    with sk.Lab("healthy") as lab:
        for live in ("no", "False", 1, "0"):
            with pytest.raises(InvalidInput, match="live"):
                sk.send(mail(to=lab.recipient), live=live, network=lab.network)
        with pytest.raises(InvalidInput, match="zones 'zen"):
            sk.watch(lab.domain, zones=["zen.example"], network=lab.network)
        assert not lab.mailbox
        assert not lab.log


def test_what_is_given_is_read_once_and_stays_the_callers() -> None:
    to = (one for one in [YOU, "s@daum.example"])
    assert mail(to=to).header("To") == f"{YOU}, s@daum.example"
    own = FRAME.copy()
    own.attrs["mine"] = {"a": [1]}
    found = sk.diagnose(own)
    own["code"] = 550
    assert found.frame is not None
    assert set(found.frame.code) == {250}
    assert own.attrs == {"mine": {"a": [1]}}


def test_an_enhanced_code_of_a_reply_counts() -> None:
    said = Reply(550, b"550 5.2.2 no\r\n")
    assert sk.classify("no", 550, said.enhanced) == sk.classify("no", 550, "5.2.2")


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
