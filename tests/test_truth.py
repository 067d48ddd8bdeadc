"""What is told of a server, however odd: no false success, no false failure; each case a real connection."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from ssl import TLSVersion
from typing import Any

import pytest

from tests import certs, faultserver
from tests.faultserver import CLOSE, DEAF, HALF, RESET, SILENT, Acts, Drip, Flood, Tls, Wait, offers
from tests.sampling import some
from tests.truth import (
    AT_FINAL,
    AT_LIMIT,
    BIG,
    HASTY,
    MAIL,
    WIRE,
    Case,
    Play,
    ask,
    check,
    words,
)

GOOD: dict[str, Any] = faultserver.GOOD
TAKEN = "accepted body 250 2.0.0 -"
ON_THE_WIRE = {"banner": "", "ehlo": "E", "mail": "EM", "rcpt": "EMR", "data": "EMRD", "dot": "EMRDB."}
"""What the client has said when the reply at this point is due."""


def wire_with(parameters: bytes) -> bytes:
    """A whole delivery in clear, with these parameters of MAIL."""
    said = {**WIRE, "M": WIRE["M"].removesuffix(b"\r\n") + parameters + b"\r\n"}
    return b"".join(said[letter] for letter in "EMRDB.Q")


def stage(point: str) -> str:
    return "body" if point == "dot" else point


def at(point: str, what: str, acts: Acts, row: str, end: str = "", **more: Any) -> Case:
    """A case where only one point of a good dialogue goes wrong."""
    return Case(f"{point}: {what}", {point: acts}, row, ON_THE_WIRE[point] + end, **more)


def taken(what: str, script: dict[str, Acts], row: str = TAKEN, wire: str = "EMRDB.Q", **more: Any) -> Case:
    """A case that ends well."""
    return Case(what, script, row, wire, **more)


def early(what: str, script: dict[str, Acts], row: str, wire: str, code: str = "- -") -> Case:
    """A case where octets lie unread when the next command is due; `code`: of the early reply, as evidence."""
    return Case(what, script, f"{row} {code} protocol", wire, anomalies="early_bytes")


def refusals() -> Iterator[Case]:
    """Every stage times the four ways to say no."""
    for point in ON_THE_WIRE:
        told = stage(point)
        yield at(point, "450", b"450 4.2.0 Later, please\r\n", f"deferred {told} 450 4.2.0 -", "Q")
        yield at(point, "421 and close", (b"421 4.3.2 Closing\r\n", CLOSE), f"deferred {told} 421 4.3.2 -")
        yield at(point, "421, stays open", b"421 4.3.2 Closing\r\n", f"deferred {told} 421 4.3.2 -")
        if point != "ehlo":
            no = b"554-5.7.1 Blocked\r\n554 5.7.1 See https://block.example\r\n"
            yield at(point, "554 in two lines", no, f"rejected {told} 554 5.7.1 -", "Q")
            yield at(point, "550", b"550 5.1.1 No such user\r\n", f"rejected {told} 550 5.1.1 -", "Q")
    yield at("banner", "554 and close", (b"554 5.7.1 Blocked\r\n", CLOSE), "rejected banner 554 5.7.1 -")
    yield at("banner", "521", b"521 mx.fault.example takes no mail\r\n", "rejected banner 521 - -", "Q")
    yield at("rcpt", "552 full", b"552 5.2.2 Mailbox full\r\n", "rejected rcpt 552 5.2.2 -", "Q")
    yield at("rcpt", "450 greylisted", b"450 4.2.0 Greylisted\r\n", "deferred rcpt 450 4.2.0 -", "Q")
    yield at("rcpt", "451 no enhanced code", b"451 try later\r\n", "deferred rcpt 451 - -", "Q")
    yield at("mail", "552 too big", b"552 5.3.4 Too big\r\n", "rejected mail 552 5.3.4 -", "Q")
    yield at("data", "503", b"503 5.5.1 Need RCPT\r\n", "rejected data 503 5.5.1 -", "Q")
    yield at("dot", "554 5.6.0", b"554 5.6.0 Message requires 'From' header\r\n", "rejected body 554 5.6.0 -", "Q")
    yield at("dot", "451", b"451 4.7.1 Greylisted after DATA\r\n", "deferred body 451 4.7.1 -", "Q")


def endings() -> Iterator[Case]:
    """Every stage times the ways to fall silent."""
    for point in ON_THE_WIRE:
        dot = point == "dot"
        told, maybe = f"{'unknown' if dot else 'failed'} {stage(point)} - -", {"maybe": dot}
        yield at(point, "close", CLOSE, f"{told} lost", **maybe)
        yield at(point, "close in the middle of a line", (b"250 Ok", CLOSE), f"{told} lost", **maybe)
        yield at(point, "close in the middle of a reply", (b"250-Ok\r\n", CLOSE), f"{told} lost", **maybe)
        yield at(point, "RST", (Wait(0.1), RESET), f"{told} reset", **maybe)
        yield at(point, "half-close", HALF, f"{told} lost", **maybe)
        limit = AT_FINAL if dot else AT_LIMIT
        slow = {"hasty": True, "within": limit, **maybe}
        yield at(point, "silence", SILENT, f"{told} timeout", **slow)
        drip = (Drip(b"250 " + b"o" * 200, 0.05), SILENT)
        yield at(point, "a drip that never ends a line", drip, f"{told} timeout", **slow)
        lines = (Drip(b"250-o\r\n" * 30, 0.05), SILENT)
        yield at(point, "a drip of whole lines", lines, f"{told} timeout", **slow)


def not_replies() -> Iterator[Case]:
    """Octets that are no reply, or no reply that may stand there."""
    for point in ON_THE_WIRE:
        dot = point == "dot"
        told, maybe = f"{'unknown' if dot else 'failed'} {stage(point)}", {"maybe": dot}
        odd = {
            "two digits": b"25 Ok\r\n", "four digits": b"2500 Ok\r\n", "digits with _": b"2_0 Ok\r\n",
            "a sign": b"+25 Ok\r\n", "Arabic digits": "٢٥٠ Ok\r\n".encode(), "letters": b"OK\r\n",
            "an empty line": b"\r\n",
        }  # fmt: skip
        for name, octets in odd.items():
            yield at(point, name, octets, f"{told} - - protocol", anomalies="garbage", **maybe)
        for code in (0, 199, 600, 999):
            octets, note = f"{code:03} Ok\r\n".encode(), "bad_code" * (not 100 <= code < 600)
            yield at(point, f"{code:03}", octets, f"{told} {code} - protocol", anomalies=note, **maybe)
        mixed, row = b"250-Ok\r\n550 5.1.1 No\r\n", f"{told} 550 - protocol"
        yield at(point, "two codes in one reply", mixed, row, anomalies="mixed_codes", **maybe)
        before, row = b"warning: disk is full\r\n250 2.1.5 Ok\r\n", f"{told} - - protocol"
        yield at(point, "garbage before the reply", before, row, anomalies="garbage", **maybe)
        row, more = f"{told} - - too_long", {"anomalies": "too_long", **maybe}
        yield at(point, "an endless line", Flood(b"250 " + b"x" * 60000), row, **more)
        yield at(point, "endless lines", Flood(b"250-X\r\n" * 10000), row, **more)
    odd_codes = {"banner": (250, 354), "ehlo": (220, 354), "mail": (220, 251, 354), "rcpt": (220, 354)}
    odd_codes |= {"data": (220, 221, 250, 334)}
    for point, codes in odd_codes.items():
        for code in codes:
            octets, row = f"{code} Go on\r\n".encode(), f"failed {point} {code} - protocol"
            yield at(point, f"{code}, which has no place there", octets, row)
    yield at("dot", "354 again", b"354 Go on\r\n", "unknown body 354 - protocol", maybe=True)
    http = b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html></html>"
    yield at("banner", "HTTP on port 25", (http, CLOSE), "failed banner - - protocol", anomalies="garbage")
    ssh = b"SSH-2.0-OpenSSH_9.2p1\r\n"
    yield at("banner", "SSH on port 25", ssh, "failed banner - - protocol", anomalies="garbage")
    alert = b"\x15\x03\x01\x00\x02\x02\x0a"
    row = "failed banner - - protocol"
    yield at("banner", "a TLS alert in clear", (alert, CLOSE), row, anomalies="garbage")
    nuls = "failed rcpt - - too_long"
    yield at("rcpt", "NULs without end", Flood(b"\0" * 65536), nuls, anomalies="too_long")


def dialects() -> Iterator[Case]:
    """Odd, and yet good: each of these mails was taken."""
    done = "accepted body 250"
    hanmail = {
        "banner": b"220 rmail-mx.hanmail.example ESMTP Hanmail\r\n",
        "mail": b"250 2.1.0 <me@ours.example>... Sender ok\r\n",
        "rcpt": b"250 2.1.5 <r@fault.example>... Recipient ok\r\n",
        "data": b'354 Enter mail, end with "." on a line by itself\r\n',
        "dot": b"250 2.0.0 6APNSHAG002226 Message accepted for delivery\r\n",
    }
    yield taken("Sendmail and HanMail", hanmail)
    exchange = {
        "banner": b"220 EX01.corp.example Microsoft ESMTP MAIL Service ready at Wed, 25 Nov 2026 +0900\r\n",
        "ehlo": offers("DSN", "ENHANCEDSTATUSCODES", "X-ANONYMOUSTLS", "AUTH NTLM", "8BITMIME", "XRDST"),
        "rcpt": b"250 2.1.5 Recipient OK\r\n",
        "dot": b"250 2.6.0 <1@ours.example> [InternalId=3113] Queued mail for delivery\r\n",
    }
    yield Case("Exchange", exchange, f"{done} 2.6.0 -", "EMRDB.Q")
    qmail = {
        "banner": b"220 qmail.fault.example ESMTP\r\n", "ehlo": offers("8BITMIME"), "mail": b"250 ok\r\n",
        "rcpt": b"250 ok\r\n", "data": b"354 go ahead\r\n", "dot": b"250 ok 1795651200 qp 4711\r\n",
    }  # fmt: skip
    yield Case("qmail", qmail, f"{done} - -", "EMRDB.Q")
    for code in (500, 501, 502, 504):
        no = f"{code} 5.5.1 Command unrecognized\r\n".encode()
        yield Case(f"HELO only, EHLO gets {code}", {"ehlo": no}, f"{done} 2.0.0 -", "EHMRDB.Q")
    gone = {"ehlo": b"502 5.5.1 No\r\n", "helo": b"550 5.7.1 Blocked\r\n"}
    yield Case("EHLO and HELO refused", gone, "rejected ehlo 550 5.7.1 -", "EHQ")
    for point in ("banner", "mail", "rcpt", "dot"):
        good = {"banner": b"220", "data": b"354"}.get(point, b"250")
        bare = {point: good + b"\r\n"}
        row = f"{done} {'-' if point == 'dot' else '2.0.0'} -"
        yield taken(f"{point}: a code and nothing else", bare, row, anomalies="no_text")
        blank = {point: good + b" \r\n"}
        yield taken(f"{point}: a code and a blank", blank, row, anomalies="no_text")
        lines = {point: good + b"-one\r\n" + good + b"-two\r\n" + good + b" three\r\n"}
        yield taken(f"{point}: three lines", lines, row)
        lf = {point: good + b" Ok\n"}
        yield taken(f"{point}: a bare LF", lf, row, anomalies="bare_lf")
    slow: dict[str, Acts] = {p: Drip(a, 0.002) for p, a in GOOD.items() if isinstance(a, bytes)}
    yield taken("all replies octet by octet", slow)
    cut = {"rcpt": (b"250 2.1.5 Ok\r", Wait(0.1), b"\n"), "mail": (b"25", Wait(0.1), b"0 Ok\r\n")}
    yield taken("replies cut between CR and LF", cut)
    many = {"ehlo": offers(*(f"X-NOTHING-{n}" for n in range(80)))}
    yield taken("eighty extensions", many)
    long = {"rcpt": b"250 2.1.5 " + b"x" * 5000 + b"\r\n"}
    yield taken("a line of 5,000 octets", long)
    like_code = {"rcpt": b"250-234 is text\r\n250 550 is text\r\n"}
    yield taken("text that looks like a code", like_code)
    yield taken("rcpt: 251", {"rcpt": b"251 2.1.5 Will forward\r\n"})
    late = {"banner": (Wait(1.0), GOOD["banner"])}
    yield taken("a banner after one second", late, within=(1.0, 8.0))
    wait = {"dot": (Wait(2.2), b"250 2.0.0 Ok\r\n")}
    limits = {"timeouts": replace(HASTY, final=30)}
    yield taken("final reply later than other replies may", wait, call=limits, within=(2.2, 20))
    yield taken("text in EUC-KR", {"dot": b"250 2.0.0 " + "수신함".encode("euc-kr") + b"\r\n"})
    broken = {"dot": b"250 2.0.0 \xc3(\xff\r\n"}
    yield taken("text in broken UTF-8", broken, anomalies="undecodable")


def enhanced() -> Iterator[Case]:
    """An enhanced code counts only if its class fits."""
    for text, told in {
        "4.1.1 No": "-", "2.1.1 No": "-", "5.1.1": "5.1.1", "5.1.1 No": "5.1.1", "5.123.456 No": "5.123.456",
        "5.1234.1 No": "-", "15.1.1 No": "-", "5.1 No": "-", "5.1.1.1 No": "-", "5.1.x No": "-",
        "x5.1.1 No": "-",
    }.items():  # fmt: skip
        yield at("rcpt", f"550 {text}", f"550 {text}\r\n".encode(), f"rejected rcpt 550 {told} -", "Q")


def desync() -> Iterator[Case]:
    """Octets that came when nothing was asked never count."""
    twice = b"220 one\r\n220 two\r\n"
    yield early("two greetings", {"banner": twice}, "failed ehlo", "")
    two = GOOD["ehlo"] + b"250 2.1.0 Ok\r\n"
    yield early("the answer to MAIL comes with EHLO's", {"ehlo": two}, "failed mail", "E")
    data = b"354 Go\r\n250 2.0.0 Ok: queued\r\n"
    yield early("the final reply comes with the 354", {"data": data}, "failed body", "EMRD", "250 2.0.0")
    rcpt = b"250 2.1.5 Ok\r\n354 Go\r\n"
    yield early("the 354 comes with RCPT's reply", {"rcpt": rcpt}, "failed data", "EMR")
    half = b"250 2.1.0 Ok\r\n25"
    yield early("half a reply too much", {"mail": half}, "failed rcpt", "EM")
    after = {"rcpt": (Wait(2.4), b"250 2.1.5 Ok\r\n")}
    yield Case(
        "the reply comes after its limit",
        after,
        "failed rcpt - - timeout",
        "EMR",
        hasty=True,
        within=AT_LIMIT,
    )


def quitting() -> Iterator[Case]:
    """What happens at QUIT changes no verdict and delays nobody."""
    for name, acts in {
        "close": CLOSE, "RST": RESET, "554": b"554 5.5.0 No\r\n", "421": b"421 4.3.2 Bye\r\n",
        "garbage": b"bye bye\r\n", "two replies": b"221 Bye\r\n221 Bye\r\n", "mixed": b"221-a\r\n500 b\r\n",
    }.items():  # fmt: skip
        yield taken(f"quit: {name}", {"quit": acts}, within=(0, 5))
    for name, acts in {
        "silence": SILENT,
        "drip": Drip(b"221 " + b"x" * 100),
        "flood": Flood(b"221-x\r\n" * 9999),
    }.items():
        yield taken(f"quit: {name}", {"quit": acts}, hasty=True, within=(0, 5))
    gone = {"dot": (GOOD["dot"], CLOSE)}
    yield taken("gone right after the 250", gone, wire="EMRDB.", within=(0, 5))
    reset = {"dot": (GOOD["dot"], Wait(0.05), RESET)}
    yield taken("RST right after the 250", reset, wire="EMRDB.", within=(0, 5))


def starttls() -> Iterator[Case]:
    """STARTTLS offered, refused, broken, injected, and what each mode makes of it."""
    on = offers("STARTTLS", "8BITMIME")
    tls = {"tls": "TLSv1.3", "tls_asked": "may"}
    yield taken("may: TLS", {"ehlo": on}, wire="ES|EMRDB.Q", columns=tls)
    old = {"ehlo": on, "starttls": (b"220 go\r\n", Tls(newest=TLSVersion.TLSv1_2))}
    yield taken("may: TLS 1.2", old, wire="ES|EMRDB.Q", columns={"tls": "TLSv1.2"})
    yield taken("may: not offered", {}, columns={"tls": "plain"})
    yield taken("off: offered", {"ehlo": on}, tls="off", columns={"tls": "plain"})
    for code in (454, 502, 501, 500, 530):
        no = {"ehlo": on, "starttls": f"{code} TLS not available\r\n".encode()}
        yield taken(f"may: STARTTLS gets {code}", no, wire="ESMRDB.Q", columns={"tls": "plain"})
        for mode in ("require", "verify"):
            told = f"{'deferred' if code < 500 else 'rejected'} starttls {code} - -"
            yield Case(f"{mode}: STARTTLS gets {code}", no, told, "ESQ", tls=mode)
    for mode in ("require", "verify"):
        yield Case(f"{mode}: not offered", {}, "failed starttls - - not_offered", "EQ", tls=mode)
        helo = {"ehlo": b"502 5.5.1 No\r\n"}
        yield Case(f"{mode}: HELO only", helo, "failed starttls - - not_offered", "EHQ", tls=mode)
    closing = {"ehlo": on, "starttls": (b"421 4.3.2 Bye\r\n", CLOSE)}
    yield Case("may: STARTTLS gets 421", closing, "deferred starttls 421 4.3.2 -", "ES")
    for code in (221, 250, 354):
        odd = {"ehlo": on, "starttls": f"{code} Ok\r\n".encode()}
        for mode in ("may", "require"):
            row = f"failed starttls {code} - protocol"
            yield Case(f"{mode}: STARTTLS gets {code}", odd, row, "ES", tls=mode)
    for name, extra in {
        "a reply": b"250 injected\r\n", "a fragment": b"250-in", "one octet": b"2",
        "a dialogue": offers("AUTH LOGIN") + b"250 Ok\r\n250 Ok\r\n354 Go\r\n250 queued\r\n",
    }.items():  # fmt: skip
        both = {"ehlo": on, "starttls": (b"220 go\r\n" + extra, Wait(0.1), SILENT)}
        row = "failed starttls - - protocol"
        yield Case(f"may: {name} injected behind the 220", both, row, "ES", anomalies="early_bytes")
    for name, acts in {
        "close": (CLOSE,), "RST": (RESET,), "plain text": (b"250 hello in clear\r\n", SILENT),
        "an alert": (b"\x15\x03\x03\x00\x02\x02\x28", CLOSE),
    }.items():  # fmt: skip
        broken = {"ehlo": on, "starttls": (b"220 go\r\n", Wait(0.1), *acts)}
        for mode in ("may", "require"):
            row = "failed starttls - - tls_handshake"
            wire = "ES!" if SILENT in acts else "ES"
            yield Case(f"{mode}: handshake, {name}", broken, row, wire, tls=mode)
    stalled = {"ehlo": on, "starttls": (b"220 go\r\n", SILENT)}
    row = "failed starttls - - timeout"
    yield Case("may: handshake, silence", stalled, row, "ES!", hasty=True, within=AT_LIMIT)
    drip = Drip(b"\x16\x03\x03\x20\x00" + b"\0" * 200)
    trickle = {"ehlo": on, "starttls": (b"220 go\r\n", Wait(0.2), drip)}
    yield Case("may: handshake, a drip", trickle, row, "ES", hasty=True, within=AT_LIMIT)


def certificates() -> Iterator[Case]:
    """What a certificate has wrong is told; only `verify` minds."""
    on = {"ehlo": offers("STARTTLS")}
    ca = {"call": {"ca_file": certs.kept(faultserver.NAME) / "ca.pem"}}
    fine = {"tls_verified": True, "tls_problem": None}
    yield taken("verify: good", on, wire="ES|EMRDB.Q", tls="verify", columns=fine, **ca)
    for kind in ("expired", "future", "wrong_name", "self_signed", "other_ca"):
        script = on | {"starttls": (b"220 go\r\n", Tls(kind))}
        row = "failed starttls - - tls_verify"
        yield Case(f"verify: {kind}", script, row, "ES|", tls="verify", **ca)
        wrong = {"tls_verified": False}
        for mode in ("may", "require"):
            more = {"tls": mode, "columns": wrong, **ca}
            yield taken(f"{mode}: {kind}", script, wire="ES|EMRDB.Q", **more)
    script = {"connect": Tls()}
    yield taken("implicit: good", script, wire="|EMRDB.Q", tls="implicit", columns={"tls": "TLSv1.3"})
    plain = "failed starttls - - tls_handshake"
    yield Case("implicit: the server speaks first, in clear", {}, plain, "!", tls="implicit")
    closed = {"connect": (Wait(0.05), CLOSE)}
    yield Case("implicit: close", closed, plain, "", tls="implicit")


def after_tls() -> Iterator[Case]:
    """What the server offered before TLS is forgotten."""
    size = wire_with(b" SIZE=%d" % len(MAIL))
    grown = {"ehlo": offers("STARTTLS"), "ehlo+tls": offers("SIZE 1000000")}
    yield taken("SIZE only after TLS", grown, wire=(WIRE["E"] + WIRE["S"], size))
    shrunk = {"ehlo": offers("STARTTLS", "SIZE 10", "PIPELINING"), "ehlo+tls": offers("8BITMIME")}
    yield taken("SIZE only before TLS", shrunk, wire="ES|EMRDB.Q")
    no = {"ehlo": offers("STARTTLS"), "ehlo+tls": b"550 5.7.1 Blocked\r\n"}
    yield Case("EHLO refused after TLS", no, "rejected ehlo 550 5.7.1 -", "ES|EQ")
    for name, acts, row in (
        ("close", CLOSE, "failed ehlo - - lost"),
        ("421", (b"421 4.3.2 Bye\r\n", CLOSE), "deferred ehlo 421 4.3.2 -"),
    ):
        gone = {"ehlo": offers("STARTTLS"), "ehlo+tls": acts}
        yield Case(f"EHLO after TLS: {name}", gone, row, "ES|E")
    mail = {"ehlo": offers("STARTTLS"), "mail": CLOSE}
    yield Case("close at MAIL inside TLS", mail, "failed mail - - lost", "ES|EM")
    dot = {"ehlo": offers("STARTTLS"), "dot": RESET}
    yield Case("RST at the dot inside TLS", dot, "unknown body - - reset", "ES|EMRDB.", maybe=True)
    no = {"ehlo": offers("STARTTLS"), "rcpt": b"550 5.7.1 Blocked\r\n"}
    yield Case("RCPT refused inside TLS", no, "rejected rcpt 550 5.7.1 -", "ES|EMRQ")
    again = {"ehlo": offers("STARTTLS"), "ehlo+tls": offers("STARTTLS")}
    yield taken("STARTTLS offered again inside TLS", again, wire="ES|EMRDB.Q")


def extensions() -> Iterator[Case]:
    """Parameters that are needed and offered are sent; needed and not offered is a refusal of our own."""
    size = b" SIZE=%d" % len(MAIL)
    yield taken("SIZE offered", {"ehlo": offers("SIZE 1000000")}, wire=wire_with(size))
    yield taken("SIZE without a number", {"ehlo": offers("SIZE")}, wire=wire_with(size))
    yield taken("SIZE 0 is no limit", {"ehlo": offers("SIZE 0")}, wire=wire_with(size))
    yield Case("SIZE too small", {"ehlo": offers("SIZE 20")}, "failed mail - - not_offered", "EQ")
    eight = MAIL.replace(b"dot\r\nhello\r\n", "dot\r\n안녕\r\n".encode())
    body = WIRE["B"].replace(b"dot\r\nhello\r\n", "dot\r\n안녕\r\n".encode())
    wire = wire_with(b" BODY=8BITMIME").replace(WIRE["B"], body)
    yield taken("8BITMIME needed", {"ehlo": offers("8BITMIME")}, wire=wire, message=eight)
    none = {"ehlo": offers("DSN")}
    yield Case("8BITMIME not offered", none, "failed mail - - not_offered", "EQ", message=eight)
    utf8 = "사람@fault.example"
    wire = wire_with(b" SMTPUTF8").replace(b"<r@fault", "<사람@fault".encode())
    yield taken("SMTPUTF8 needed", {"ehlo": offers("SMTPUTF8", "8BITMIME")}, wire=wire, to=(utf8,))
    yield Case("SMTPUTF8 not offered", none, "failed mail - - not_offered", "EQ", to=(utf8,))
    idn = "r@도메인.fault.example"
    wire = wire_with(b"").replace(b"<r@fault", b"<r@xn--hq1bm8jm9l.fault")
    yield taken("an IDN domain needs no SMTPUTF8", none, wire=wire, to=(idn,))
    lower = {"ehlo": b"250-mx\r\n250-size 1000000\r\n250 8bitMIME\r\n"}
    yield taken("extensions in small letters", lower, wire=wire_with(size))
    equals = {"ehlo": b"250-mx\r\n250-AUTH=LOGIN PLAIN\r\n250-SIZE\t1000\r\n250 HELP\r\n"}
    yield taken("old AUTH= and a tab", equals, wire=wire_with(size))


def pipelining() -> Iterator[Case]:
    """One batch, every status read, by counting."""
    on: dict[str, Acts] = {"ehlo": offers("PIPELINING", "ENHANCEDSTATUSCODES")}
    yield taken("pipelining", on)
    no, bad = b"550 5.7.1 Blocked\r\n", b"503 5.5.1 Bad sequence\r\n"
    mail = on | {"mail": no, "rcpt": bad, "data": bad}
    yield Case("pipelining: MAIL refused", mail, "rejected mail 550 5.7.1 -", "EMRDQ")
    rcpt = on | {"rcpt": no, "data": bad}
    yield Case("pipelining: RCPT refused", rcpt, "rejected rcpt 550 5.7.1 -", "EMRDQ")
    lone = on | {"rcpt": no, "dot": b"554 5.5.1 No valid recipients\r\n"}
    yield Case("pipelining: RCPT refused, DATA taken", lone, "rejected rcpt 550 5.7.1 -", "EMRD.Q")
    data = on | {"data": b"451 4.3.0 Later\r\n"}
    yield Case("pipelining: DATA refused", data, "deferred data 451 4.3.0 -", "EMRDQ")
    gone = on | {"mail": (b"421 4.3.2 Bye\r\n", CLOSE)}
    yield Case("pipelining: 421 at MAIL", gone, "deferred mail 421 4.3.2 -", "EMRD")
    lost = on | {"rcpt": CLOSE}
    yield Case("pipelining: close at RCPT", lost, "failed rcpt - - lost", "EMRD")
    flushed = on | {"rcpt": SILENT}
    row = "failed rcpt - - timeout"
    yield Case("pipelining: offered, and not done", flushed, row, "EMRD", hasty=True, within=AT_LIMIT)
    odd = on | {"rcpt": b"garbage\r\n250 2.1.5 Ok\r\n"}
    row = "failed rcpt - - protocol"
    yield Case("pipelining: garbage in the batch", odd, row, "EMRD", anomalies="garbage")
    extra = on | {"data": b"354 Go\r\n250 2.0.0 Ok: queued\r\n"}
    yield early("pipelining: one reply too many", extra, "failed body", "EMRD", "250 2.0.0")
    one: dict[str, Acts] = on | {"mail": b"", "rcpt": b"", "data": GOOD["mail"] + GOOD["rcpt"] + GOOD["data"]}
    yield taken("pipelining: all replies in one segment", one)
    drip = on | {"rcpt": Drip(GOOD["rcpt"], 0.01), "data": Drip(GOOD["data"], 0.01)}
    yield taken("pipelining: replies octet by octet", drip)


def recipients() -> Iterator[Case]:
    """One row a recipient, each with its own truth."""
    two = ("r@fault.example", "b@fault.example")
    wire = wire_with(b"").replace(WIRE["R"], WIRE["R"] + b"RCPT TO:<b@fault.example>\r\n")
    cut = wire[: wire.index(b"DATA")] + b"QUIT\r\n"
    yield Case("two recipients", {}, "", wire, to=two, rows=(TAKEN, TAKEN))
    unknown, later = b"550 5.1.1 No such user\r\n", b"450 4.2.0 Greylisted\r\n"
    no, wait = "rejected rcpt 550 5.1.1 -", "deferred rcpt 450 4.2.0 -"
    yield Case("the second is unknown", {"rcpt <b@fault.example>": unknown}, "", wire, to=two, rows=(TAKEN, no))
    yield Case("the first is unknown", {"rcpt <r@fault.example>": unknown}, "", wire, to=two, rows=(no, TAKEN))
    both: dict[str, Acts] = {"rcpt <r@fault.example>": unknown, "rcpt <b@fault.example>": later}
    yield Case("one unknown, one greylisted", both, "", cut, to=two, rows=(no, wait))
    yield Case("both unknown", {"rcpt": unknown}, "", cut, to=two, rows=(no, no))
    many = {"rcpt <b@fault.example>": b"452 4.5.3 Too many recipients\r\n"}
    rows = (TAKEN, "deferred rcpt 452 4.5.3 -")
    yield Case("452 too many", many, "", wire, to=two, rows=rows)
    many = {"rcpt <b@fault.example>": b"552 5.5.3 Too many recipients\r\n"}
    rows = (TAKEN, "deferred rcpt 552 5.5.3 -")
    yield Case("552 too many means later (RFC 5321 4.5.3.1.10)", many, "", wire, to=two, rows=rows)
    refused = {"dot": b"554 5.7.1 Spam\r\n"}
    rows = ("rejected body 554 5.7.1 -",) * 2
    yield Case("both taken, the message refused", refused, "", wire, to=two, rows=rows)
    gone = {"rcpt <b@fault.example>": (b"421 4.7.0 Too many errors\r\n", CLOSE)}
    rows = ("deferred rcpt 421 4.7.0 -",) * 2
    before = cut.removesuffix(b"QUIT\r\n")
    yield Case("421 at the second recipient", gone, "", before, to=two, rows=rows)
    lost = {"rcpt <b@fault.example>": CLOSE}
    yield Case("lost at the second", lost, "", before, to=two, rows=("failed rcpt - - lost",) * 2)


def bodies() -> Iterator[Case]:
    """Trouble while the message is on its way."""
    part = "EMRD+"
    big: dict[str, Any] = {"message": BIG, "server": {"small_window": True}}
    lost = "failed body - -"
    yield Case("body: close half-way", {"body": CLOSE}, f"{lost} reset", part, **big)
    yield Case("body: RST half-way", {"body": RESET}, f"{lost} reset", part, **big)
    big["anomalies"] = None  # the refusal is read before or after our last octets: both are the truth
    row = "deferred body 421 4.3.2 -"
    yield Case("body: 421 half-way", {"body": (b"421 4.3.2 Bye\r\n", HALF)}, row, part, **big)
    row = "rejected body 552 5.3.4 -"
    yield Case("body: 552 half-way", {"body": (b"552 5.3.4 Too big\r\n", HALF)}, row, part, **big)
    row, more = "failed body 250 2.0.0 protocol", {**big, "anomalies": "early_bytes"}
    yield Case("body: 250 before the dot", {"body": (b"250 2.0.0 Ok\r\n", HALF)}, row, part, **more)
    row, more = f"{lost} timeout", {**big, "anomalies": "", "hasty": True, "within": (2.0, 14.0)}
    yield Case("body: the server reads no more", {"body": DEAF}, row, part, **more)


def hostile_texts() -> Iterator[Case]:
    """Whatever stands in a reply is kept, visibly, and does nothing."""
    for name, sent, shown in (
        ("ANSI", b"\x1b[2J\x1b]52;c;cm0gLXJm\x07", r"\x1b[2J\x1b]52;c;cm0gLXJm\x07"),
        ("C1", b"\xc2\x9b31m", r"\x9b31m"),
        ("NUL", b"a\0b", r"a\x00b"),
        ("bare CR", b"a\rb", r"a\x0db"),
        ("bidi", "\u202eabc".encode(), r"\u202eabc"),
        ("a line separator", "a\u2028b".encode(), r"a\u2028b"),
        ("HTML", b"<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("a formula", b"=HYPERLINK(1)", "=HYPERLINK(1)"),
        ("Korean", "차단".encode(), "차단"),
        ("EUC-KR", "차단".encode("euc-kr"), "차단"),
        ("broken UTF-8", b"\xff\xfe!", r"\xff\xfe!"),
    ):
        columns, odd = {"reply": f"550 5.7.1 {shown}"}, "undecodable" * (name == "broken UTF-8")
        no = b"550 5.7.1 " + sent + b"\r\n"
        yield at("rcpt", f"text with {name}", no, "rejected rcpt 550 5.7.1 -", "Q", columns=columns, anomalies=odd)


def probes() -> Iterator[Case]:
    """Probes stop where they were told to, and leave politely."""
    on = {"ehlo": offers("STARTTLS")}
    yield Case("probe to the banner", {}, "passed banner 220 - -", "Q", until="banner")
    yield Case("probe to EHLO", {}, "passed ehlo 250 - -", "EQ", until="ehlo")
    yield Case("probe to EHLO over TLS", on, "passed ehlo 250 - -", "ES|EQ", until="ehlo")
    yield Case("probe to MAIL", {}, "passed mail 250 2.1.0 -", "EMQ", until="mail")
    yield Case("probe to RCPT", {}, "passed rcpt 250 2.1.5 -", "EMRQ", until="rcpt")
    yield Case("probe to RCPT over TLS", on, "passed rcpt 250 2.1.5 -", "ES|EMRQ", until="rcpt")
    pipe = {"ehlo": offers("PIPELINING")}
    yield Case("a probe never pipelines", pipe, "passed rcpt 250 2.1.5 -", "EMRQ", until="rcpt")
    no = {"rcpt": b"550 5.1.1 No such user\r\n"}
    yield Case("a probe is refused", no, "rejected rcpt 550 5.1.1 -", "EMRQ", until="rcpt")
    hang = {"quit": SILENT}
    row = "passed rcpt 250 2.1.5 -"
    yield Case("a probe, QUIT hangs", hang, row, "EMRQ", until="rcpt", hasty=True, within=(0.5, 5))


TABLES = {
    table.__name__: list(table())
    for table in (
        refusals, endings, not_replies, dialects, enhanced, desync, quitting, starttls, certificates,
        after_tls, extensions, pipelining, recipients, bodies, hostile_texts, probes,
    )
}  # fmt: skip
CASES = {f"{table}: {case.name}": case for table, cases in TABLES.items() for case in cases}


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Play]:
    playing = Play(CASES.values(), tmp_path_factory.mktemp("truth"), request)
    yield playing
    playing.close()


@pytest.mark.parametrize("case", some(CASES))
def test_the_truth(case: str, play: Play) -> None:
    check(play[CASES[case].name])


def test_the_table_is_as_large_as_promised() -> None:
    assert len(CASES) == len({case.name for case in CASES.values()}) >= 150


def test_nobody_listens(tmp_path: Path) -> None:
    with faultserver.closed_port() as address:
        frame = ask(Case("closed port", {}, "", ""), address, tmp_path)
    assert [words(row) for row in frame.to_dict("records")] == ["failed connect - - refused"]


@pytest.mark.slow
def test_nobody_answers_the_syn(tmp_path: Path) -> None:
    begun = time.monotonic()
    with faultserver.dead_port() as address:
        frame = ask(Case("dead port", {}, "", "", hasty=True), address, tmp_path)
    assert [words(row) for row in frame.to_dict("records")] == ["failed connect - - timeout"]
    assert 1.9 <= time.monotonic() - begun < 8
