"""Sessions by hand: what is typed and what is read as two texts, and the rows that are left of it."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import smtpkit as sk
from smtpkit.auth import Secret
from smtpkit.errors import InvalidInput
from smtpkit.steps import Lost
from tests import certs
from tests.faultserver import CLOSE, NAME, RESET, SILENT, FaultServer, Tls, Wait, closed_port, offers
from tests.truth import ALLOWED, HASTY, MAIL, PATIENT, WIRE, network, words

HELLO = "EHLO client.example"
FROM, TO = "MAIL FROM:<me@ours.example>", "RCPT TO:<r@fault.example>"
UP_TO = {
    "banner": [],
    "ehlo": [HELLO],
    "mail": [HELLO, FROM],
    "rcpt": [HELLO, FROM, TO],
    "data": [HELLO, FROM, TO, "DATA"],
    "body": [HELLO, FROM, TO, "DATA", "Subject: hi", "."],
}
POINT = {"body": "dot"}
GUARD = sk.Guard(allow_to=ALLOWED)


def talk_to(where: FaultServer, folder: Path, **more: Any) -> sk.Dialogue:
    net = more.pop("network", None) or network(folder, "by hand")
    settings = {"live": True, "guard": GUARD, "timeouts": PATIENT, "server_name": NAME}
    return sk.Dialogue(more.pop("server", where.address), network=net, **(settings | more))


def typed(talk: sk.Dialogue, lines: list[str]) -> None:
    """Type line after line; in parentheses what is no command."""
    for line in lines:
        match line.strip("()").split() if line.startswith("(") else []:
            case ["drop"]:
                talk.drop()
            case ["hang", seconds]:
                talk.hang(float(seconds))
            case ["message"]:
                talk.data(MAIL)
            case _:
                talk.command(line)


@dataclass(frozen=True)
class Case:
    """What is typed, what is read then, one line a row; `wire`: what the server got, in letters of truth.WIRE."""

    typed: str
    read: str
    rows: str
    script: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


CASES = {
    "a delivery": Case(
        f"{HELLO}\n{FROM}\n{TO}\nDATA\nSubject: hi\n\n..dot\n.\nQUIT",
        """<-  220 mx.fault.example ESMTP
 -> EHLO client.example
<-  250-mx.fault.example
<-  250-ENHANCEDSTATUSCODES
<-  250 8BITMIME
 -> MAIL FROM:<me@ours.example>
<-  250 2.1.0 Ok
 -> RCPT TO:<r@fault.example>
<-  250 2.1.5 Ok
 -> DATA
<-  354 End data with <CR><LF>.<CR><LF>
 -> .
<-  250 2.0.0 Ok: queued as 4F1D2A
 -> QUIT
<-  221 2.0.0 Bye""",
        "me@ours.example r@fault.example accepted body 250 2.0.0 -",
    ),
    "a session that stops after the greeting": Case(
        "quit",
        "<-  220 mx.fault.example ESMTP\n -> QUIT\n<-  221 2.0.0 Bye",
        "- - passed banner 220 - -",
    ),
    "a blacklist, and the user goes on all the same": Case(
        f"{HELLO}\nQUIT",
        "<** 554 5.7.1 listed\n -> EHLO client.example\n<** 503 5.5.1 no\n -> QUIT\n<-  221 2.0.0 Bye",
        "- - rejected ehlo 503 5.5.1 -",
        {"banner": b"554 5.7.1 listed\r\n", "ehlo": b"503 5.5.1 no\r\n"},
    ),
    "raw and unknown commands change no row": Case(
        "HELO client.example\nNOOP\nVRFY root\nXCLIENT ADDR=192.0.2.7\nfoo\nRSET\n(drop)",
        """<-  220 mx.fault.example ESMTP
 -> HELO client.example
<-  250 mx.fault.example
 -> NOOP
<-  250 2.0.0 Ok
 -> VRFY root
<-  250 2.0.0 root
 -> XCLIENT ADDR=192.0.2.7
<** 500 5.5.2 Error: command not recognized
 -> foo
<** 500 5.5.2 Error: command not recognized
 -> RSET
<-  250 2.0.0 Ok""",
        "- - passed ehlo 250 - -",
        {"other 1": b"250 2.0.0 root\r\n"},
    ),
    "two recipients, then a second message": Case(
        f"{HELLO}\n{FROM}\n{TO}\nRCPT TO:<no@fault.example>\n(message)\nMAIL FROM:<>\n{TO}\nQUIT",
        """<-  220 mx.fault.example ESMTP
 -> EHLO client.example
<-  250-mx.fault.example
<-  250-ENHANCEDSTATUSCODES
<-  250 8BITMIME
 -> MAIL FROM:<me@ours.example>
<-  250 2.1.0 Ok
 -> RCPT TO:<r@fault.example>
<-  250 2.1.5 Ok
 -> RCPT TO:<no@fault.example>
<** 550 5.1.1 unknown
 -> DATA
<-  354 End data with <CR><LF>.<CR><LF>
 -> .
<-  250 2.0.0 Ok: queued as 4F1D2A
 -> MAIL FROM:<>
<-  250 2.1.0 Ok
 -> RCPT TO:<r@fault.example>
<-  250 2.1.5 Ok
 -> QUIT
<-  221 2.0.0 Bye""",
        """me@ours.example r@fault.example accepted body 250 2.0.0 -
me@ours.example no@fault.example rejected rcpt 550 5.1.1 -
<> r@fault.example passed rcpt 250 2.1.5 -""",
        {"rcpt <no@fault.example>": b"550 5.1.1 unknown\r\n"},
    ),
    "a message that is dropped in the middle": Case(
        f"{HELLO}\n{FROM}\n{TO}\nDATA\nSubject: half\n(drop)",
        """<-  220 mx.fault.example ESMTP
 -> EHLO client.example
<-  250-mx.fault.example
<-  250-ENHANCEDSTATUSCODES
<-  250 8BITMIME
 -> MAIL FROM:<me@ours.example>
<-  250 2.1.0 Ok
 -> RCPT TO:<r@fault.example>
<-  250 2.1.5 Ok
 -> DATA
<-  354 End data with <CR><LF>.<CR><LF>""",
        "me@ours.example r@fault.example passed data 354 - -",
    ),
    "a server that speaks while we are silent": Case(
        f"{HELLO}\n(hang 5)\nNOOP",
        """<-  220 mx.fault.example ESMTP
 -> EHLO client.example
<-  250 mx.fault.example
<** 421 4.4.2 Idle""",
        "- - passed ehlo 250 - -",
        {"ehlo": (offers(), Wait(0.2), b"421 4.4.2 Idle\r\n", CLOSE)},
    ),
    "a server that is silent with us": Case(
        f"{HELLO}\n(hang 0.1)\nNOOP\nQUIT",
        """<-  220 mx.fault.example ESMTP
 -> EHLO client.example
<-  250 mx.fault.example
 -> NOOP
<-  250 2.0.0 Ok
 -> QUIT
<-  221 2.0.0 Bye""",
        "- - passed ehlo 250 - -",
        {"ehlo": offers()},
    ),
    "an unreadable recipient is asked of the server by nobody": Case(
        f"{HELLO}\n{FROM}\nRCPT TO:r@fault.example\nRCPT TO:<a b>\nQUIT",
        """<-  220 mx.fault.example ESMTP
 -> EHLO client.example
<-  250 mx.fault.example
 -> MAIL FROM:<me@ours.example>
<-  250 2.1.0 Ok
 -> QUIT
<-  221 2.0.0 Bye""",
        """me@ours.example TO:r@fault.example withheld rcpt - - guard
me@ours.example a b withheld rcpt - - guard""",
        {"ehlo": offers()},
    ),
    "not live": Case(
        f"{HELLO}\n{FROM}\nRCPT TO:<r@daum.example>\n data\nDATA x\nNOOP\nQUIT",
        """<-  220 mx.fault.example ESMTP
 -> EHLO client.example
<-  250 mx.fault.example
 -> MAIL FROM:<me@ours.example>
<-  250 2.1.0 Ok
 -> RCPT TO:<r@daum.example>
<-  250 2.1.5 Ok
 -> NOOP
<-  250 2.0.0 Ok
 -> QUIT
<-  221 2.0.0 Bye""",
        "me@ours.example r@daum.example withheld data - - guard",
        {"ehlo": offers()},
        {"live": False},
    ),
    "live, but not allowed": Case(
        f"{HELLO}\n{FROM}\n{TO}\nRCPT TO:<r@daum.example>\n(message)\nQUIT",
        """<-  220 mx.fault.example ESMTP
 -> EHLO client.example
<-  250 mx.fault.example
 -> MAIL FROM:<me@ours.example>
<-  250 2.1.0 Ok
 -> RCPT TO:<r@fault.example>
<-  250 2.1.5 Ok
 -> RCPT TO:<r@daum.example>
<-  250 2.1.5 Ok
 -> QUIT
<-  221 2.0.0 Bye""",
        """me@ours.example r@fault.example withheld data - - guard
me@ours.example r@daum.example withheld data - - guard""",
        {"ehlo": offers()},
    ),
    "354 where none is due opens no way round the guard": Case(
        f"{HELLO}\nNOOP\nSubject: x\n.\n(drop)",
        """<-  220 mx.fault.example ESMTP
 -> EHLO client.example
<-  250 mx.fault.example
 -> NOOP
<** 354 go ahead""",
        "- - withheld body - - guard",
        {"ehlo": offers(), "noop": b"354 go ahead\r\n"},
        {"live": False},
    ),
    "a DATA that is written oddly ends as any other": Case(
        f"{HELLO}\n{FROM}\n{TO}\nDATA x\nSubject: x\n.\nQUIT",
        """<-  220 mx.fault.example ESMTP
 -> EHLO client.example
<-  250 mx.fault.example
 -> MAIL FROM:<me@ours.example>
<-  250 2.1.0 Ok
 -> RCPT TO:<r@fault.example>
<-  250 2.1.5 Ok
 -> DATA x
<-  354 End data with <CR><LF>.<CR><LF>
 -> .
<-  250 2.0.0 Ok: queued as 4F1D2A
 -> QUIT
<-  221 2.0.0 Bye""",
        "me@ours.example r@fault.example accepted body 250 2.0.0 -",
        {"ehlo": offers()},
    ),
}


def told(frame: Any) -> str:
    """Rows as sender, recipient and the words of truth.words."""
    shown = frame.astype("object").where(frame.notna(), "-")
    return "\n".join(f"{row['sender']} {row['recipient']} {words(row)}" for row in shown.to_dict("records"))


@pytest.mark.parametrize("name", CASES)
def test_what_is_typed_and_what_is_read(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    with FaultServer(case.script) as server:
        talk = talk_to(server, tmp_path, **case.more)
        typed(talk, case.typed.split("\n"))
        talk.drop()
        server.settled()
    assert str(talk.transcript).partition("\n")[2] == case.read
    frame = talk.frame()
    assert told(frame) == case.rows
    assert set(frame.source) == {"dialogue"}
    assert frame.session.nunique() == 1
    assert str(frame.smtp[0].transcript).partition("\n")[2] == case.read, "the casebook has the same"
    assert frame.vantage.eq("here").all()
    assert sk.Casebook(tmp_path / "by_hand.sqlite").verify().empty


@pytest.mark.slow
@pytest.mark.parametrize("stage", UP_TO)
@pytest.mark.parametrize(
    ("acts", "error"),
    [(CLOSE, "lost"), ((Wait(0.05), RESET), "reset"), (SILENT, "timeout"), (b"HTTP/1.1 400\r\n", "protocol")],
    ids=["close", "RST", "silence", "garbage"],
)
def test_a_broken_session_is_told_and_closed(stage: str, acts: Any, error: str, tmp_path: Path) -> None:
    with FaultServer({POINT.get(stage, stage): acts}) as server:
        talk = talk_to(server, tmp_path, timeouts=HASTY)
        typed(talk, UP_TO[stage])
        assert talk.over
        assert isinstance(talk.command("NOOP"), Lost), "nothing is said after it"
        session = server.settled()[0]
    row = talk.frame().iloc[0]
    outcome = "unknown" if stage == "body" else "failed"
    assert (row.outcome, row.stage, row.error) == (outcome, stage, error)
    assert row.maybe_delivered == (stage == "body")
    assert b"NOOP" not in session.clear
    assert b"QUIT" not in session.clear


@pytest.mark.parametrize("stage", UP_TO)
def test_421_ends_it_without_quit(stage: str, tmp_path: Path) -> None:
    with FaultServer({POINT.get(stage, stage): b"421 4.3.2 Closing\r\n"}) as server:
        talk = talk_to(server, tmp_path)
        typed(talk, UP_TO[stage])
        assert talk.last.code == 421
        assert talk.over
        assert b"QUIT" not in server.settled()[0].clear
    assert words(talk.frame().iloc[0]) == f"deferred {stage} 421 4.3.2 -"


@pytest.mark.parametrize("way", ["quit", "drop", "hang"])
@pytest.mark.parametrize("stage", ["banner", "ehlo", "mail", "rcpt", "data"])
def test_it_ends_as_the_user_says_after_any_stage(way: str, stage: str, tmp_path: Path) -> None:
    with FaultServer({}) as server:
        talk = talk_to(server, tmp_path)
        typed(talk, UP_TO[stage])
        if way == "hang":
            assert talk.hang(0.05) is None
            assert not talk.over
        if way == "quit" and stage != "data":
            assert talk.quit().code == 221
        else:
            talk.drop()
        session = server.settled()[0]
    said = "".join(f"{line}\r\n" for line in UP_TO[stage]) + "QUIT\r\n" * (way == "quit" and stage != "data")
    assert bytes(session.clear).decode() == said
    row = talk.frame().iloc[0]
    assert (row.outcome, row.stage, row.asked) == ("passed", stage, stage)
    assert not row.maybe_delivered
    assert talk.over


def test_the_octets_are_those_of_a_send(tmp_path: Path) -> None:
    with FaultServer({}) as server:
        with talk_to(server, tmp_path) as talk:
            typed(talk, [HELLO, FROM, TO, "(message)"])
            row = talk.frame().iloc[0]
            assert row.outcome == "accepted", "decided while the session goes on"
        assert bytes(server.settled()[0].clear) == b"".join(WIRE[letter] for letter in "EMRDB.Q")
    assert (row.message_id, row.size_bytes, row.queue_id) == ("<1@ours.example>", len(MAIL), "4F1D2A")


def test_nobody_listens(tmp_path: Path) -> None:
    with closed_port() as address:
        talk = sk.Dialogue(address, network=network(tmp_path, "by hand"))
    assert talk.last == Lost("refused", text=talk.last.text)
    assert talk.over
    assert words(talk.frame().iloc[0]) == "failed connect - - refused"


def test_an_address_that_is_not_allowed(tmp_path: Path) -> None:
    talk = sk.Dialogue(("127.0.0.1", 25), network=sk.internet(casebook=tmp_path / "c", ledger=tmp_path / "l"))
    assert talk.last.error == "guard"
    assert talk.over
    assert words(talk.frame().iloc[0]) == "withheld connect - - guard"


def test_a_name_without_an_address(tmp_path: Path) -> None:
    net = sk.internet(casebook=tmp_path / "c", ledger=tmp_path / "l")
    talk = sk.Dialogue("mx.nowhere.example", network=net)
    assert talk.last.error == "dns_nxdomain"
    assert talk.over
    assert talk.transcript.rows == ()
    assert words(talk.frame().iloc[0]) == "failed dns - - dns_nxdomain"


def test_a_receiver_that_must_rest_is_not_called(tmp_path: Path) -> None:
    pace = sk.Pace(receiver_gap=100, ip_gap=100, patience=1)
    with FaultServer({}) as server:
        net = network(tmp_path, "by hand")
        sk.Dialogue(server.address, network=net, pace=pace).quit()
        talk = sk.Dialogue(server.address, network=net, pace=pace)
        assert talk.last.error == "paced"
        assert len(server.settled()) == 1


@pytest.mark.parametrize("way", ["stop", "interrupt"])
@pytest.mark.parametrize(("stage", "outcome"), [("ehlo", "failed"), ("body", "unknown")])
def test_a_wait_is_stopped(way: str, stage: str, outcome: str, tmp_path: Path) -> None:
    with FaultServer({POINT.get(stage, stage): SILENT}) as server:
        talk = talk_to(server, tmp_path)
        last = UP_TO[stage][-1]
        typed(talk, UP_TO[stage][:-1])
        end = talk.stop if way == "stop" else lambda: os.kill(os.getpid(), signal.SIGINT)
        threading.Timer(0.3, end).start()
        begun = time.monotonic()
        assert talk.command(last).error == "stopped"
        assert time.monotonic() - begun < 5
        assert talk.over
    assert words(talk.frame().iloc[0]) == f"{outcome} {stage} - - stopped"


def test_a_session_left_alone_ends(tmp_path: Path) -> None:
    with FaultServer({}) as server:
        talk = talk_to(server, tmp_path, timeouts=sk.Timeouts(idle=0.2))
        talk.ehlo("client.example")
        assert server.settled()[0].left == "eof"
        assert talk.noop().error == "timeout"
        assert talk.over
    assert words(talk.frame().iloc[0]) == "passed ehlo 250 2.0.0 -".replace("2.0.0", "-")


def test_without_its_casebook_nothing_more_is_said(tmp_path: Path) -> None:
    with FaultServer({}) as server:
        talk = talk_to(server, tmp_path)
        talk.ehlo("client.example")
        (tmp_path / "by_hand.sqlite").rename(tmp_path / "moved.sqlite")
        (tmp_path / "by_hand.sqlite").write_bytes(b"")
        with pytest.raises(sk.errors.StoreError, match="moved or replaced"):
            talk.mail("me@ours.example")
        assert talk.over
        assert bytes(server.settled()[0].clear) == b"EHLO client.example\r\n"


@pytest.mark.slow
def test_a_kill_loses_neither_whom_nor_what(tmp_path: Path) -> None:
    """SIGKILL while the dot is not answered: the row says to whom, and that it is not known."""
    source = """
import sys, smtpkit as sk
from tests import test_by_hand as t
from tests.faultserver import FaultServer, SILENT
from pathlib import Path
with FaultServer({"dot": (t.Wait(0.1), SILENT)}) as server:
    talk = t.talk_to(server, Path(sys.argv[1]))
    t.typed(talk, t.UP_TO["body"][:-1])
    print("ready", flush=True)
    talk.command(".")
"""
    run = [sys.executable, "-c", source, str(tmp_path)]
    with subprocess.Popen(run, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.5)
        process.kill()
    frame = sk.Casebook(tmp_path / "by_hand.sqlite").attempts()
    assert told(frame) == "me@ours.example r@fault.example unknown body - - interrupted"
    replies = sk.Casebook(tmp_path / "by_hand.sqlite").replies()
    assert list(replies.code) == [220, 250, 250, 250, 354], "what was heard is there, too"


# ---- parameters


def test_parameters_typed_and_raw_go_out_whether_offered_or_not(tmp_path: Path) -> None:
    with FaultServer({"ehlo": offers()}) as server:
        with talk_to(server, tmp_path, sender="me@ours.example") as talk:
            talk.ehlo("client.example")
            talk.mail(None, "SIZE=9", "BODY=8BITMIME", ret="hdrs", envid="a+b=c d")
            talk.rcpt("r@fault.example", notify=("SUCCESS", "delay"), orcpt="r+x@fault.example")
            talk.rcpt("Kim <k@fault.example>", "FOO=bar", notify="NEVER")
            talk.rset()
            talk.mail("<>", ret="FULL")
            talk.rset()
            talk.mail("사람@도메인.example", "SMTPUTF8")
            talk.rcpt("r@[127.0.0.1]")
            talk.rcpt("r@[IPv6:2001:db8:0::1]")
        assert talk.offers == {}
        said = bytes(server.settled()[0].clear).decode().split("\r\n")
    assert said == [
        "EHLO client.example",
        "MAIL FROM:<me@ours.example> SIZE=9 BODY=8BITMIME RET=HDRS ENVID=a+2Bb+3Dc+20d",
        "RCPT TO:<r@fault.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;r+2Bx@fault.example",
        "RCPT TO:<k@fault.example> FOO=bar NOTIFY=NEVER",
        "RSET",
        "MAIL FROM:<> RET=FULL",
        "RSET",
        "MAIL FROM:<사람@xn--hq1bm8jm9l.example> SMTPUTF8",
        "RCPT TO:<r@[127.0.0.1]>",
        "RCPT TO:<r@[IPv6:2001:db8::1]>",
        "QUIT",
        "",
    ]
    recipients = ["r@fault.example", "k@fault.example", "r@[127.0.0.1]", "r@[IPv6:2001:db8::1]"]
    assert [r for r in talk.frame().recipient if isinstance(r, str)] == recipients


@pytest.mark.parametrize(
    "wrong",
    [
        lambda talk: talk.command("NOOP\r\nRCPT TO:<x@y.example>"),
        lambda talk: talk.command("NOOP\u2028"),
        lambda talk: talk.ehlo("c.example\nNOOP"),
        lambda talk: talk.mail("me@ours.example", "SIZE=1\r\nNOOP"),
        lambda talk: talk.mail("me@ours.example", ret="SOME"),
        lambda talk: talk.mail("me@ours.example", envid="\u00e9"),
        lambda talk: talk.mail(),
        lambda talk: talk.rcpt("a b@fault.example"),
        lambda talk: talk.rcpt("r@fault.example", notify=("NEVER", "DELAY")),
        lambda talk: talk.rcpt("r@fault.example", notify="often"),
        lambda talk: talk.vrfy("a\rb"),
        lambda talk: talk.command("AUTH PLAIN AGEAYg=="),
        lambda talk: talk.command(" auth login"),
        lambda talk: talk.command("BDAT 3 LAST"),
        lambda talk: talk.auth("jo", Secret("hunter2")),
        lambda talk: talk.data("no octets"),
    ],
)
def test_what_cannot_be_said_is_refused_before_an_octet(wrong: Any, tmp_path: Path) -> None:
    with FaultServer({}) as server:
        talk = talk_to(server, tmp_path)
        with pytest.raises(InvalidInput):
            wrong(talk)
        assert not talk.over
        talk.quit()
        assert bytes(server.settled()[0].clear) == b"QUIT\r\n"


def test_quit_inside_a_message_would_be_a_line_of_it(tmp_path: Path) -> None:
    with FaultServer({}) as server:
        with talk_to(server, tmp_path) as talk:
            typed(talk, UP_TO["data"])
            with pytest.raises(InvalidInput, match="reads a message"):
                talk.quit()
        assert b"QUIT" not in server.settled()[0].clear


SNEAKY = [
    "DATA",
    "data",
    " DATA",
    "dAtA x",
    "BDAT 3 LAST",
    "BURL x",
    "SEND FROM:<a@b.example>",
    "ETRN x",
    "TURN",
    ".",
]
SNEAKY += [
    TO,
    "RCPT TO:<r@daum.example>",
    "RCPT TO: r@daum.example",
    " rcpt to:<r@daum.example>",
    FROM,
    HELLO,
    "NOOP",
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.sampled_from(SNEAKY), max_size=8),
    codes=st.fixed_dictionaries({p: st.sampled_from([250, 354, 500]) for p in ("mail", "rcpt", "noop", "other")}),
    live=st.booleans(),
)
@pytest.mark.slow
def test_whatever_is_typed_nothing_reaches_whom_the_guard_does_not_name(
    lines: list[str], codes: dict[str, int], live: bool, tmp_path: Path
) -> None:
    """A server that says 354 to anything: no DATA without live=True, none for a recipient not in allow_to."""
    script = {point: f"{code} ok\r\n".encode() for point, code in codes.items()}
    with FaultServer(script) as server:
        talk = talk_to(server, tmp_path, live=live)
        for line in lines:
            with suppress(InvalidInput):  # refused before an octet left
                talk.command(line)
        talk.drop()
        said = bytes(server.settled()[0].clear).upper()
    handed = re.findall(rb"(?m)^[ ]*(?:DATA|BDAT|BURL|SEND|ETRN|TURN)\b.*$", said)
    begun = re.search(rb"(?m)^[ ]*DATA\b", said)  # answered by 354: what follows is a message, not commands
    commands = said[: begun.start()] if begun else said
    assert live or not handed
    assert b"RCPT TO: R@" not in commands or 354 in codes.values(), "a line of a message, if anything"
    if b"R@DAUM.EXAMPLE>" in commands and 354 not in codes.values():
        assert begun is None


def test_no_more_copies_than_the_guard_says(tmp_path: Path) -> None:
    guard = sk.Guard(allow_to=ALLOWED, max_messages=2)
    with FaultServer({}) as server, talk_to(server, tmp_path, guard=guard) as talk:
        talk.ehlo()
        answers = []
        for _ in range(3):
            typed(talk, [FROM, TO])
            answers.append(talk.data(MAIL))
            talk.rset()
        assert [answer.code for answer in answers] == [250, 250, None]
        assert "max_messages=2" in answers[2].text
    assert list(talk.frame().outcome) == ["accepted", "accepted", "withheld"]


def test_the_kill_switch_holds_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTPKIT_NO_SEND", "1")
    with FaultServer({}) as server, talk_to(server, tmp_path) as talk:
        typed(talk, UP_TO["rcpt"])
        assert talk.data(MAIL).error == "guard"


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_from_the_address_that_the_network_names(ip: str, tmp_path: Path) -> None:
    ours = "127.0.0.9" if ip == "127.0.0.1" else "::1"
    net = network(tmp_path, "by hand", source_ip=ours)
    with FaultServer({}, ip) as server, talk_to(server, tmp_path, network=net) as talk:
        talk.ehlo()
    row = talk.frame().iloc[0]
    assert (row.local_ip, row.mx_ip) == (ours, ip)
    assert pd.isna(row.sender_ip), "a private address of ours is not what the receiver sees"
    assert row.helo == "client.example"


def test_helo_is_said_by_its_own_name(tmp_path: Path) -> None:
    with FaultServer({}) as server, talk_to(server, tmp_path) as talk:
        assert talk.helo().code == 250
        assert talk.helo("other.example").code == 250
        talk.quit()
        assert bytes(server.settled()[0].clear) == b"HELO client.example\r\nHELO other.example\r\nQUIT\r\n"


# ---- TLS


def test_implicit_tls_comes_before_the_greeting(tmp_path: Path) -> None:
    script = {"connect": Tls()}
    with FaultServer(script) as server:
        authority = certs.kept(NAME) / "ca.pem"
        with talk_to(server, tmp_path, tls="implicit", ca_file=authority) as talk:
            assert talk.ehlo().code == 250
            assert talk.tls.verified
            assert talk.tls.chain[0].names == (NAME,)
        session = server.settled()[0]
    assert bytes(session.clear) == b""
    assert str(talk.transcript).split("\n")[1:3] == ["=== TLS started", "<~  220 mx.fault.example ESMTP"]
    row = talk.frame().iloc[0]
    assert (row.tls_asked, row.tls_verified, row.outcome) == ("implicit", True, "passed")


@pytest.mark.parametrize("mode", ["may", "verify"])
def test_a_bad_certificate(mode: str, tmp_path: Path) -> None:
    script = {"ehlo": offers("STARTTLS"), "starttls": (b"220 go\r\n", Tls("expired"))}
    with FaultServer(script) as server:
        talk = talk_to(server, tmp_path, tls=mode, ca_file=certs.kept(NAME) / "ca.pem")
        talk.ehlo()
        answer = talk.starttls()
        assert "expired" in talk.tls.problem, "the chain is there even then"
        assert len(talk.tls.chain) >= 1
        assert talk.over == (mode == "verify")
        assert (answer.code, getattr(answer, "error", None)) == (
            (220, None) if mode == "may" else (None, "tls_verify")
        )
        talk.drop()
    row = talk.frame().iloc[0]
    assert row.outcome == ("passed" if mode == "may" else "failed")
    assert "expired" in row.tls_problem


def test_a_bad_certificate_is_not_why_the_guard_holds_a_message_back(tmp_path: Path) -> None:
    script = {"ehlo": offers("STARTTLS"), "starttls": (b"220 go\r\n", Tls("expired"))}
    with FaultServer(script) as server, talk_to(server, tmp_path, live=False) as talk:
        talk.ehlo(), talk.starttls(), talk.ehlo(), talk.mail("me@ours.example"), talk.rcpt("r@fault.example")
        assert talk.data(b"From: a\r\n\r\nhi").error == "guard"
    row = talk.frame().iloc[0]
    assert (row.outcome, row.tls_verified, pd.isna(row.get("why"))) == ("withheld", False, True)


def test_nothing_is_said_in_clear_where_tls_is_required(tmp_path: Path) -> None:
    with FaultServer({"starttls": b"454 4.7.0 not now\r\n"}) as server:
        talk = talk_to(server, tmp_path, tls="require")
        assert talk.ehlo().code == 250
        assert talk.starttls().code == 454
        for say in (lambda: talk.mail("me@ours.example"), lambda: talk.command(TO)):
            with pytest.raises(InvalidInput, match="not said in clear"):
                say()
        talk.quit()
        said = bytes(server.settled()[0].clear)
    assert said == b"EHLO client.example\r\nSTARTTLS\r\nQUIT\r\n"
    assert words(talk.frame().iloc[0]) == "deferred starttls 454 4.7.0 -"


def test_octets_before_the_handshake_end_it(tmp_path: Path) -> None:
    script = {"starttls": b"220 go\r\n250 injected\r\n"}
    with FaultServer(script) as server:
        talk = talk_to(server, tmp_path)
        talk.ehlo()
        assert talk.starttls().error == "protocol"
        assert talk.over
        assert b"\x16\x03" not in bytes(server.settled()[0].clear)
    assert words(talk.frame().iloc[0]) == "failed starttls - - protocol"


def test_offers_are_asked_anew_under_tls(tmp_path: Path) -> None:
    script = {"ehlo": offers("STARTTLS", "SIZE 9"), "ehlo+tls": offers("AUTH PLAIN")}
    with FaultServer(script) as server, talk_to(server, tmp_path) as talk:
        talk.ehlo()
        assert talk.offers == {"STARTTLS": "", "SIZE": "9"}
        talk.starttls()
        assert talk.offers == {}
        talk.ehlo()
        assert talk.offers == {"AUTH": "PLAIN"}
        with pytest.raises(InvalidInput, match="on already"):
            talk.starttls()


# ---- AUTH: the secret is in no artefact

SECRET, USER = "hunter2-s3cret-marker", "jo@ours.example"


def submission(folder: Path, server: FaultServer) -> Any:
    """A network where the server is 192.0.2.1, port 587."""
    return network(folder, "by hand", reroute={("192.0.2.1", 587): server.address})


def traces(user: str = USER) -> list[bytes]:
    """Every way in which the secret could be written."""
    forms = [SECRET, f"\0{user}\0{SECRET}", f"user={user}\1auth=Bearer {SECRET}\1\1"]
    return [SECRET.encode(), *(b64encode(form.encode()) for form in forms)]


def assert_no_trace(found: dict[str, bytes]) -> None:
    shown = [name for name, octets in found.items() for trace in traces() if trace in octets]
    assert shown == []


def artefacts(talk: sk.Dialogue, folder: Path) -> dict[str, bytes]:
    frame = talk.frame()
    texts = {
        "repr": repr(talk) + repr(talk.last) + repr(vars(talk)),
        "transcript": str(talk.transcript) + talk.transcript.jsonl() + talk._repr_html_(),
        "frame": frame.to_csv() + sk.Casebook(folder / "by_hand.sqlite").replies().to_csv(),
    }
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return {name: text.encode() for name, text in texts.items()} | files


QUOTED = b'500 5.5.1 Command unrecognized: "%s"\r\n'
PLAIN = b64encode(f"\0{USER}\0{SECRET}".encode())
LOGINS = {
    "PLAIN": ({"auth": b"235 2.7.0 ok\r\n"}, "PLAIN", 235),
    "PLAIN refused": ({"auth": b"535 5.7.8 wrong\r\n"}, "PLAIN", 535),
    "PLAIN quoted": ({"auth": QUOTED % (b"AUTH PLAIN " + PLAIN)}, "PLAIN", 500),
    "PLAIN quoted in clear": ({"auth": b"535 5.7.8 no password %s\r\n" % SECRET.encode()}, "PLAIN", 535),
    "PLAIN quoted, then gone": ({"auth": (b"421 4.7.0 %s\r\n" % PLAIN, CLOSE)}, "PLAIN", 421),
    "PLAIN quoted as garbage": ({"auth": b"what? %s\r\n" % PLAIN}, "PLAIN", None),
    "PLAIN lost": ({"auth": CLOSE}, "PLAIN", None),
    "PLAIN, asked for more": ({"auth": b"334 \r\n", "other": b"501 5.7.0 cancelled\r\n"}, "PLAIN", 501),
    "LOGIN": (
        {"auth": b"334 VXNlcm5hbWU6\r\n", "other 1": b"334 UGFzc3dvcmQ6\r\n", "other 2": b"235 ok\r\n"},
        "LOGIN",
        235,
    ),
    "LOGIN quoted": (
        {"auth": b"334 \r\n", "other 1": b"334 \r\n", "other 2": QUOTED % b64encode(SECRET.encode())},
        "LOGIN",
        500,
    ),
    "CRAM-MD5": (
        {"auth": b"334 " + b64encode(b"<1@mx>") + b"\r\n", "other": b"235 ok\r\n"}, "CRAM-MD5", 235
    ),
    "CRAM-MD5, no challenge": (
        {"auth": b"334 your turn\r\n", "other": b"501 5.7.0 cancelled\r\n"}, "CRAM-MD5", 501
    ),
    "XOAUTH2": ({"auth": b"235 ok\r\n"}, "XOAUTH2", 235),
    "XOAUTH2 refused": (
        {"auth": b"334 eyJzdGF0dXMiOiI0MDAifQ==\r\n", "other": b"535 5.7.8 no\r\n"}, "XOAUTH2", 535
    ),
}  # fmt: skip
WIRED = {
    "PLAIN": b"AUTH PLAIN " + PLAIN + b"\r\n",
    "LOGIN": b"AUTH LOGIN\r\n" + b64encode(USER.encode()) + b"\r\n" + b64encode(SECRET.encode()) + b"\r\n",
    # by another tool: printf '<1@mx>' | openssl dgst -md5 -hmac hunter2-s3cret-marker
    "CRAM-MD5": b"AUTH CRAM-MD5\r\n" + b64encode(USER.encode() + b" 7812779ccee62528bed388c873e0f263") + b"\r\n",
    "CRAM-MD5, no challenge": b"AUTH CRAM-MD5\r\n*\r\n",
    "XOAUTH2": b"AUTH XOAUTH2 " + traces()[3] + b"\r\n",
}


@pytest.mark.parametrize("name", LOGINS)
def test_the_secret_goes_to_the_server_and_nowhere_else(name: str, tmp_path: Path) -> None:
    script, mechanism, code = LOGINS[name]
    with FaultServer({"ehlo": offers(f"AUTH {mechanism}"), **script}) as server:
        talk = talk_to(server, tmp_path, network=submission(tmp_path, server), server=("192.0.2.1", 587))
        talk.ehlo()
        answer = talk.auth(USER, Secret(SECRET), in_clear=True)
        assert answer.code == code
        talk.drop()
        said = bytes(server.settled()[0].clear)
    assert WIRED.get(name, b"AUTH") in said
    assert_no_trace(artefacts(talk, tmp_path))
    outcomes = {235: "passed", 421: "deferred", None: "failed"}
    assert talk.frame().outcome[0] == ("failed" if code == 501 else outcomes.get(code, "rejected"))
    assert talk.frame().stage[0] == "auth"
    assert f"AUTH {mechanism} ***" in str(talk.transcript) or code is None


def test_a_traceback_with_all_locals_has_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython's %xmode Verbose, at the worst moment: the worker breaks while it sends the password."""
    from IPython.core.ultratb import VerboseTB

    monkeypatch.setenv("SMTPKIT_PASSWORD", SECRET)
    with FaultServer({"ehlo": offers("AUTH PLAIN")}) as server:
        talk = talk_to(server, tmp_path, network=submission(tmp_path, server), server=("192.0.2.1", 587))
        talk.ehlo()
        engine = talk._worker.engine
        engine._push = lambda session: 1 / 0
        try:
            talk.auth(USER, in_clear=True)
        except sk.errors.EngineFault:
            kind, error, trace = sys.exc_info()
            shown = VerboseTB(theme_name="nocolor").text(kind, error, trace)
            cause = error.__cause__
            shown += VerboseTB(theme_name="nocolor").text(type(cause), cause, cause.__traceback__)
    assert "ZeroDivisionError" in shown
    assert_no_trace({"traceback": shown.encode()})
    assert_no_trace(artefacts(talk, tmp_path))


def test_a_password_needs_tls_and_the_safest_mechanism_is_taken(tmp_path: Path) -> None:
    script = {
        "ehlo": offers("STARTTLS", "AUTH PLAIN"),
        "ehlo+tls": offers("AUTH LOGIN PLAIN CRAM-MD5"),
        "auth": (b"334 " + b64encode(b"<1@mx>") + b"\r\n"),
        "other": b"235 2.7.0 ok\r\n",
    }
    with FaultServer(script) as server:
        net = submission(tmp_path, server)
        with talk_to(server, tmp_path, network=net, server=("192.0.2.1", 587)) as talk:
            talk.ehlo()
            with pytest.raises(InvalidInput, match=r"shows the password.*starttls\(\) first"):
                talk.auth(USER, Secret(SECRET))
            with pytest.raises(InvalidInput, match="NTLM"):
                talk.auth(USER, Secret(SECRET), "NTLM")
            talk.starttls()
            talk.ehlo()
            assert talk.auth(USER, Secret(SECRET)).code == 235
        session = server.settled()[0]
    assert b"AUTH" not in session.clear
    assert b"AUTH CRAM-MD5\r\n" in session.secret


def test_no_password_is_shown_to_a_server_that_asks_for_none(tmp_path: Path) -> None:
    """SCRAM and Kerberos keep it from the server; PLAIN is said there only if it is named."""
    with FaultServer({"ehlo": offers("AUTH SCRAM-SHA-256 GSSAPI"), "auth": b"504 5.5.4 no\r\n"}) as server:
        net = submission(tmp_path, server)
        with talk_to(server, tmp_path, network=net, server=("192.0.2.1", 587)) as talk:
            talk.ehlo()
            with pytest.raises(InvalidInput, match="SCRAM-SHA-256, GSSAPI"):
                talk.auth(USER, Secret(SECRET), in_clear=True)
            assert talk.auth(USER, Secret(SECRET), "PLAIN", in_clear=True).code == 504
        assert server.settled()[0].clear.count(b"AUTH") == 1


def test_the_secret_is_found_where_it_should_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text(SECRET + "\n")
    monkeypatch.setenv("SMTPKIT_PASSWORD_FILE", str(tmp_path / "password"))
    assert Secret.find().reveal() == SECRET
    (tmp_path / "korean").write_bytes("비밀번호".encode("euc-kr"))
    for wrong in ("korean", "missing", ""):
        monkeypatch.setenv("SMTPKIT_PASSWORD_FILE", str(tmp_path / wrong))
        with pytest.raises(InvalidInput, match="SMTPKIT_PASSWORD_FILE") as refused:
            Secret.find()
        assert refused.value.__suppress_context__, "the octets of the password are in the decoder's error"
    monkeypatch.setenv("SMTPKIT_PASSWORD", "other")
    assert Secret.find().reveal() == "other"
    for wrong in ("a\nb", "a\u200bb", 7, ""):  # type: ignore[assignment]  # a wrong type is the point
        with pytest.raises(InvalidInput) as refused:
            Secret(wrong)  # type: ignore[arg-type]  # a wrong type is the point
        assert repr(wrong) not in str(refused.value)
    assert f"{Secret(SECRET)!r} {Secret(SECRET)}" == "Secret(***) Secret(***)"
    with pytest.raises(InvalidInput):
        Secret(SECRET).__reduce__()
