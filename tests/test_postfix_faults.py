"""What a reader of real Postfix logs met: each of these lost, moved or misread a row, or ended the read."""

import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import smtpkit as sk
from smtpkit.logs import files, headers, postfix
from tests import logref
from tests.frames import values

H = "Mar  2 09:14:05 relay1 postfix/smtp[41]: "
ISO = H.replace("Mar  2 09:14:05", "2026-03-02T09:14:05+00:00")
MX, MX2 = "mx.example.net[192.0.2.25]:25", "mx2.example.net[192.0.2.26]:25"
QID = "4XkP2q3Zr1z9tQ"
OK = "250 2.0.0 Ok"


def final(
    text: str, status: str = "sent", relay: str = MX, h: str = H, x: str = "", t: str = "", **more: str
) -> str:
    """A line for one recipient; `x` stands before delay=, `t` before dsn=."""
    q, to, d = (more.get(name, usual) for name, usual in (("q", QID), ("to", "k@example.net"), ("d", "0.9")))
    start = f"{h}{q}: to=<{to}>, relay={relay}, {x}delay={d}, delays=0.08/0.01/3.5/1.9, "
    return f"{start}{t}dsn=2.0.0, status={status} ({text})\n"


def read(folder: Path, text: str | bytes, **how: Any) -> Any:
    """The log's frame, by default of the year 2026 and in UTC."""
    (folder / "mail.log").write_bytes(text if isinstance(text, bytes) else text.encode())
    return sk.read_log(folder / "mail.log", **({"year": 2026, "tz": "UTC"} | how))


def problems(frame: Any) -> int:
    return sum(one["count"] for one in frame.attrs["problems"])


POLICY = {
    "a policy": ("", "tls=dane, ", None),
    "a policy that may": ("", "tls=may, ", None),
    "a policy of two parts": ("", "tls=dane/requiretls, ", None),
    "a policy and a reused connection": ("conn_use=2, ", "tls=dane, ", 2),
    "a reused connection": ("conn_use=2, ", "", 2),
}


@pytest.mark.parametrize("who", ["k@example.net", '"k k"@example.net'])
@pytest.mark.parametrize(("x", "t", "use"), POLICY.values(), ids=POLICY)
def test_the_tls_policy_that_postfix_3_11_writes(x: str, t: str, use: int | None, who: str, tmp_path: Path) -> None:
    line = final(OK, x=x, t=t, d="7", to=who, h=ISO)
    made = read(tmp_path, line)
    names = ("recipient", "mx_ip", "conn_use", "queue_s", "body_s", "dsn_log", "outcome")
    assert values(made, *names) == [[who, "192.0.2.25", use, 0.01, 1.9, "2.0.0", "accepted"]]
    assert [[row[n] for n in names[:-1]] for row in logref.read([line])] == [
        row[:-1] for row in values(made, *names)
    ]
    assert problems(made) == 0


def test_a_field_that_is_not_known_is_no_other_field(tmp_path: Path) -> None:
    made = read(tmp_path, final(OK) + final(OK, x="odd=7, ") + final(OK, t="odd=7, "))
    assert (len(made), problems(made)) == (1, 2)


BIG = "x[192.0.2.1]:99999999999"
WORDS = {
    "a server we know": ("sent", MX, f"250-connect to {BIG} 250 ok", ["mx.example.net", "192.0.2.25", 25, 250]),
    "after its name": (
        "bounced", MX, f"host mx.example.net[192.0.2.25] said: 550 connect to {BIG}",
        ["mx.example.net", "192.0.2.25", 25, 550],
    ),
    "our own words": ("deferred", "none", f"connect to {BIG}: Connection refused", ["x", "192.0.2.1", None, None]),
    "digits that are none of ours": ("sent", MX, "2\u0663\u0663 ok", ["mx.example.net", "192.0.2.25", 25, 233]),
}  # fmt: skip


@pytest.mark.parametrize(("status", "relay", "text", "told"), WORDS.values(), ids=WORDS)
def test_a_server_s_own_words_name_no_server(
    status: str, relay: str, text: str, told: list[object], tmp_path: Path
) -> None:
    line = final(text, status, relay, h=ISO)
    names = ("mx_host", "mx_ip", "port", "code")
    assert values(read(tmp_path, line + final(OK)), *names)[0] == told
    assert [row.get(name) for row in logref.read([line]) for name in names] == told


def test_a_size_that_no_number_holds_is_left_out(tmp_path: Path) -> None:
    size = f"{ISO}{QID}: from=<s@example.org>, size=99999999999999999999, nrcpt=1 (queue active)\n"
    made = read(tmp_path, size + final(OK, h=ISO))
    assert values(made, "sender", "size_bytes") == [["s@example.org", None]]
    assert [row["size_bytes"] for row in logref.read([size, final(OK, h=ISO)])] == [None]


ROTATED = {
    "hyphens in the date": "mail.log-2026-03-01 mail.log-2026-03-02.gz mail.log",
    "a stamp behind the date": "mail.log-20260301-1772323200 mail.log-20260302-1772409600.gz mail.log",
    "a time behind the date": "mail.log.20260302T000000 mail.log.20260302T120000 mail.log",
    "both ways to write a date": "mail.log-20260228 mail.log-2026-03-01 mail.log-20260302 mail.log",
    "old": "mail.log.2.gz mail.log.1 mail.log.old mail.log",
    "old without others": "mail.log.old mail.log",
    "Plesk's": "maillog.processed.2.gz maillog.processed.1.gz maillog.processed maillog",
}


@pytest.mark.parametrize("names", ROTATED.values(), ids=ROTATED)
def test_a_rotated_set_is_read_from_the_oldest(names: str, tmp_path: Path) -> None:
    for n, name in enumerate(names.split()):
        line = final(OK, to=f"r{n}@example.net").encode()
        (tmp_path / name).write_bytes(gzip.compress(line) if name.endswith("gz") else line)
    made = sk.read_log(tmp_path, year=2026, tz="UTC")
    assert made.recipient.tolist() == [f"r{n}@example.net" for n in range(len(names.split()))]


FILTER, SOCKET = "127.0.0.1[127.0.0.1]:10024", "mail.example.org[private/dovecot-lmtp]"
HELD = f"{QID}: host 127.0.0.1[127.0.0.1] said: 451 4.5.0 later (in reply to end of DATA command)"
DOWN = {
    "a filter": [f"connect to {FILTER}: Connection refused", True],
    "a socket": [f"connect to {SOCKET}: Connection refused", True],
    "a filter that is busy": [HELD, False],
    "a filter that hangs up": [f"{QID}: lost connection with localhost[::1] while sending RCPT TO", False],
}


@pytest.mark.parametrize(("text", "told_again"), DOWN.values(), ids=DOWN)
def test_a_filter_or_socket_that_is_down_is_no_mx(text: str, told_again: bool, tmp_path: Path) -> None:
    refused = f"{ISO}connect to {MX}: Connection refused\n"
    again = final(text, "deferred", "none", h=ISO) if told_again else ""
    log = refused + f"{ISO}{text}\n" + again + final(OK, relay=MX2, h=ISO, q="4XkP2q3Zr1z9tR")
    made = read(tmp_path, log)
    assert made.mx_ip.tolist() == ["192.0.2.25", "192.0.2.26"]
    assert made.queue_id.tolist() == [QID if told_again else "4XkP2q3Zr1z9tR", "4XkP2q3Zr1z9tR"]
    assert (made.attrs["skipped"]["local"]["lines"], problems(made)) == (1 + told_again, 0)
    assert [row["mx_ip"] for row in logref.read(log.split("\n"))] == made.mx_ip.tolist()


REFUSED = f"connect to {MX}: Connection refused"
CUT = f"{QID}: to=<k@cut.example>, relay=mx2.exam"
OTHER = {"q": "4XkP2q3Zr1z9tR", "to": "k@other.example", "relay": MX2}
NO_PID = ISO.replace("[41]", "")
SAID = f"{QID}: host {MX2[:-3]} said: 421 4.7.0 later (in reply to MAIL FROM command)"
PAIRED = {
    "the final line was cut": (ISO, [REFUSED, CUT, final(OK, **OTHER, h="")], [["192.0.2.25", QID, None]]),
    "a final line is read": (
        ISO, [REFUSED, final(OK, **OTHER, h="")], [["192.0.2.25", "4XkP2q3Zr1z9tR", "other.example"]]
    ),
    "no process, another message": (NO_PID, [REFUSED, final(OK, **OTHER, h="")], [["192.0.2.25", None, None]]),
    "no process, the same text later": (
        NO_PID, [REFUSED, final(OK, **OTHER, h=""), final(REFUSED, "deferred", "none", h="")],
        [["192.0.2.25", QID, "example.net"]],
    ),
    "no process, the same text twice": (
        NO_PID, [REFUSED, REFUSED, final(REFUSED, "deferred", "none", h="")],
        [["192.0.2.25", None, None], ["192.0.2.25", QID, "example.net"]],
    ),
    "no process, a refusal": (
        NO_PID, [SAID, final(OK, **OTHER, h=""), final(OK, h="")],
        [["192.0.2.26", QID, "example.net"], ["192.0.2.25", QID, "example.net"]],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("head", "texts", "told"), PAIRED.values(), ids=PAIRED)
def test_a_failure_goes_to_its_own_message(
    head: str, texts: list[str], told: list[list[object]], tmp_path: Path
) -> None:
    log = "".join(f"{head}{text.strip()}\n" for text in texts)
    made = values(read(tmp_path, log), "mx_ip", "queue_id", "domain")
    others = [row for row in made if row[2] == "other.example" and row[0] == "192.0.2.26"]
    assert [row for row in made if row not in others] == told
    judged = [[row["mx_ip"], row.get("queue_id")] for row in logref.read(log.split("\n"))]
    assert judged == [row[:2] for row in made]


def test_a_day_that_is_no_number_ends_no_read(tmp_path: Path) -> None:
    made = read(tmp_path, f"abc \u00b2\u00b2 09:14:05 {REFUSED}\n" + final(OK), year=None)
    assert (len(made), problems(made)) == (1, 0)


def test_a_failure_without_process_waits_a_day() -> None:
    early = "".join(NO_PID.replace("-02T", f"-{day:02}T") + REFUSED + "\n" for day in range(2, 12))
    reader = postfix.Reader()
    lines = files.lines(early.encode(), 1)
    rows, _ = reader.feed(reader.heads(lines, headers.Clock(datetime(2026, 3, 2, tzinfo=UTC)))[0])
    assert (len(rows), len(reader.end())) == (8, 2)


def dated(*stamps: str) -> str:
    """A line for each stamp; "<" is one with a PRI, "-" one without host, "*" a repeat."""
    heads = {"<": "<22>{} relay1 {}", "-": "{} {}", "*": "{} relay1 {}"}
    texts = {"*": f"message repeated 2 times: [ {REFUSED}]"}
    fronts = [heads.get(one[0], "{} relay1 {}").format(one.strip("<-*"), "postfix/smtp[41]: ") for one in stamps]
    return "".join(f"{front}{texts.get(one[0], REFUSED)}\n" for one, front in zip(stamps, fronts, strict=True))


YEARS = {
    "over six months": ("Jan 10", "*Mar  2", "Apr  2", "-Sep  5", "Dec 20"),
    "odd lines far apart": ("Jan 10", "<Jan 11", "Jun  2", "<Dec  5", "Dec 20"),
    "odd lines at both ends": ("<Jan 10", "May  2", "Sep  9", "<Dec 20"),
    "an odd line first": ("<Jan 10", "Jun  9", "Dec 20"),
    "an odd line last": ("Jan 10", "May  2", "Sep  9", "<Dec 20"),
    "odd lines alone": ("<Jan 10", "-May  2", "*Sep  9", "<Dec 20"),
}


@pytest.mark.parametrize("days", YEARS.values(), ids=YEARS)
def test_an_odd_line_has_the_year_of_the_line_before(days: tuple[str, ...], tmp_path: Path) -> None:
    log = dated(*(f"{day} 09:14:05" for day in days)) + dated("Jan  2 09:14:05")
    made = read(tmp_path, log)
    months = {"Jan": "01", "Mar": "03", "Apr": "04", "May": "05", "Jun": "06", "Sep": "09", "Dec": "12"}
    wanted = [f"2026-{months[day.strip('<-*')[:3]]}" for day in days for _ in range(1 + (day[0] == "*"))]
    assert made.started_at.dt.strftime("%Y-%m").tolist() == [*wanted, "2027-01"]


EVES = {
    "east of UTC": (("Jan  1 00:30:05",), "2025-12-31T16:00", "Asia/Seoul", "2025-12-31T15:30:05"),
    "a zone that was not given": (("Jan  1 00:30:05",), "2025-12-31T16:00", None, "2026-01-01T00:30:05"),
    "west of UTC": (("Dec 31 20:30:05",), "2026-01-01T01:31", "America/New_York", "2026-01-01T01:30:05"),
    "a year in one file": (
        ("Jan  1 00:30:05", "May  1 00:00:00", "Aug  1 00:00:00", "Dec 31 10:00:00"),
        "2026-12-31T10:01", "UTC", "2026-01-01T00:30:05",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("stamps", "written", "tz", "instant"), EVES.values(), ids=EVES)
def test_the_year_at_new_year(
    stamps: tuple[str, ...], written: str, tz: str | None, instant: str, tmp_path: Path
) -> None:
    (tmp_path / "mail.log").write_text(dated(*stamps))
    os.utime(tmp_path / "mail.log", (datetime.fromisoformat(written + "+00:00").timestamp(),) * 2)
    made = sk.read_log(tmp_path / "mail.log", tz=tz)
    assert made.started_at.min() == datetime.fromisoformat(instant + "+00:00")
    assert problems(made) == 0


FRONTS = {
    "a BOM in RFC 5424": "<22>1 2026-03-02T09:14:05Z relay1 postfix 41 - - \ufeff",
    "a BOM behind data": '<22>1 2026-03-02T09:14:05Z relay1 postfix 41 - [x@1 a="b"] \ufeff',
    "Solaris": H + "[ID 197553 mail.info] ",
    "Solaris, RFC 3339": ISO + "[ID 197553 mail.info] ",
    "a BOM at the start": "\ufeff" + H,
    "NULs at the start": "\0" * 20 + H,
    "NULs and a BOM": "\0\ufeff" + ISO,
}


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS)
def test_what_stands_before_a_queue_id(front: str, tmp_path: Path) -> None:
    made = read(tmp_path, final(OK, h=front) + f"{H}{REFUSED}\n" + final(OK, h=front))
    assert made.line.tolist() == [1, 2, 3]
    assert (set(made.queue_id), set(made.vantage), problems(made)) == ({QID}, {"relay1"}, 0)
    assert {str(at)[:19] for at in made.started_at} == {"2026-03-02 09:14:05"}


def test_a_recipient_and_a_status_in_no_known_line_are_counted(tmp_path: Path) -> None:
    odd = final(OK, h=H + "[what is this] ")
    assert (len(made := read(tmp_path, final(OK) + odd)), problems(made)) == (1, 1)


def broken(text: bytes) -> bytes:
    """Packed, and then spoilt where zlib itself must find it."""
    octets = bytearray(gzip.compress(text))
    octets[11:15] = b"\xff" * 4
    return bytes(octets)


RAW = {
    "a packed file that is spoilt": (broken(final(OK).encode()), {}, 0),
    "the first day of time": (f"0001-01-01 00:00:00 relay1 postfix/smtp[41]: {REFUSED}\n", {"tz": "Asia/Seoul"}, 1),
    "a zone that is none": (ISO.replace("+00:00", ".000000+99:99") + REFUSED + "\n", {}, 1),
    "a record whose text is a number": (final(OK) + '{"__REALTIME_TIMESTAMP":"1","MESSAGE":5}\n', {}, 1),
    "a record that was cut": (
        final(OK) + '{"__REALTIME_TIMESTAMP":"1","MESSAGE":"' + final(OK, h="").strip() + "\n",
        {},
        1,
    ),
    "a record without end": (final(OK) + '{"MESSAGE":' * 100_000 + "\n", {}, 1),
    "a file of NULs": (b"\0" * 70_000, {}, 0),
    "NULs, then a broken line": (b"\0" * 70_000 + (final(OK) + CUT + "\n").encode(), {}, 1),
}


@pytest.mark.parametrize(("text", "how", "rows"), RAW.values(), ids=RAW)
def test_what_cannot_be_read_ends_no_read(
    text: bytes | str, how: dict[str, Any], rows: int, tmp_path: Path
) -> None:
    made = read(tmp_path, text, **how)
    assert (len(made), problems(made)) == (rows, 1)


REFUSAL = f"""certificate verification failed for {MX}: untrusted issuer /CN=x
Untrusted TLS connection established to {MX}: TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)
{QID}: Server certificate not trusted
"""
TRUST = {
    "another server takes it": (final(OK, relay=MX2, h=""), [["192.0.2.26", None, "accepted", None]], False),
    "none takes it": (final("Server certificate not trusted", "deferred", h=""), [], True),
    "the next has TLS as well": (
        f"Verified TLS connection established to {MX2}: TLSv1.3 with cipher Y (1/1 bits)\n"
        + final(OK, relay=MX2, h=""), [["192.0.2.26", None, "accepted", "Y"]], False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("block", [1 << 24, 200])
@pytest.mark.parametrize(("more", "rows", "again"), TRUST.values(), ids=TRUST)
def test_a_certificate_that_is_refused_keeps_its_server(
    more: str, rows: list[list[object]], again: bool, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", block)
    log = "".join(f"{ISO}{line}\n" for line in (REFUSAL + more).splitlines())
    made = read(tmp_path, log, mta="postfix")
    first, *others = values(made, "mx_ip", "error", "outcome", "tls_cipher")
    assert first == ["192.0.2.25", "tls_verify", "failed", "TLS_AES_256_GCM_SHA384"]
    assert others == rows
    assert values(made, "mx_host", "stage", "kind", "domain")[0] == [
        "mx.example.net", "starttls", "final" if again else "intermediate", "example.net",
    ]  # fmt: skip
    assert problems(made) == 0
    judged = [[row["mx_ip"], row.get("error"), row.get("tls_cipher")] for row in logref.read(log.split("\n"))]
    assert judged == values(made, "mx_ip", "error", "tls_cipher")


STORE = "mail.example.org[10.0.0.5]:7025"
LMTP = {
    "Zimbra": (ISO.replace("/smtp", "/lmtp"), STORE, f"connect to {STORE}: Connection refused"),
    "its tag without process": (NO_PID.replace("/smtp", "/lmtp"), MX, f"connect to {MX}: Connection refused"),
    "its words": (
        ISO.replace("/smtp", "/lmtp"), STORE,
        f"{QID}: host {STORE[:-5]} said: 452 4.2.2 full (in reply to RCPT TO command)",
    ),
    "where the header lost its tag": (ISO, STORE, f"connect to {STORE}: Connection refused"),
    "mailcow": (ISO, "dovecot[172.22.1.250]:24", "connect to dovecot[172.22.1.250]:24: Connection timed out"),
}  # fmt: skip


@pytest.mark.parametrize(("head", "relay", "text"), LMTP.values(), ids=LMTP)
def test_lmtp_is_no_mx(head: str, relay: str, text: str, tmp_path: Path) -> None:
    log = final(OK, relay=MX2, h=ISO) + f"{head}{text}\n" + final(OK, relay=relay, h=head)
    made = read(tmp_path, log)
    assert made.mx_ip.tolist() == ["192.0.2.26"]
    assert (made.attrs["skipped"]["local"]["lines"], problems(made)) == (2, 0)
    assert [row["mx_ip"] for row in logref.read(log.split("\n"))] == ["192.0.2.26"]


def test_a_server_s_words_make_no_lmtp(tmp_path: Path) -> None:
    made = read(tmp_path, final("250 2.0.0 [x]/lmtp[7]: ok") + final("550 /lmtp[41]: no", "bounced"))
    assert made.code.tolist() == [250, 550]


OLDEST = f"{ISO}A1B2C3D4E5: to=<k@example.net>, relay=mx.example.net[192.0.2.25], delay=2, status="
NAMED = ("mx_ip", "port", "stage", "outcome", "code", "error")
ODD = {
    "Postfix before 2.3": (
        OLDEST + f"sent ({OK})\n", [["192.0.2.25", None, "body", "accepted", 250, None]]
    ),
    "Postfix before 2.3, refused": (
        OLDEST + "bounced (host mx.example.net[192.0.2.25] said: 550 no (in reply to RCPT TO command))\n",
        [["192.0.2.25", None, "rcpt", "rejected", 550, None]],
    ),
    "an IPv6 address with a zone": (
        final(OK, relay="mx.example.net[fe80::1%eth0]:25", h=ISO),
        [["fe80::1%eth0", 25, "body", "accepted", 250, None]],
    ),
    "a TLSA record that cannot be asked": (
        final("TLSA lookup error for mx.example.net:25", "deferred", "none", h=ISO),
        [[None, None, "dns", "failed", None, "dns_servfail"]],
    ),
    "our own refusal": (final("550 domain is dead", "bounced", "none", h=ISO), []),
    "our own refusal that names a server": (
        final(f"550 do not connect to {MX} 451 later", "bounced", "none", h=ISO), []
    ),
    "a refusal by no relay": (
        final(f"host {MX[:-3]} said: 550 no (in reply to RCPT TO command)", "bounced", "none", h=ISO),
        [["192.0.2.25", None, "rcpt", "rejected", 550, None]],
    ),
    "a probe": (final("250 2.1.5 Ok", "deliverable", h=ISO), [["192.0.2.25", 25, "rcpt", "passed", 250, None]]),
    "a server that speaks of mailers": (
        final(f"host {MX[:-3]} said: 550 odd, mailer=esmtp (in reply to RCPT TO command)", "bounced", h=ISO),
        [["192.0.2.25", 25, "rcpt", "rejected", 550, None]],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("log", "told"), ODD.values(), ids=ODD)
def test_final_lines_of_rare_form(log: str, told: list[list[object]], tmp_path: Path) -> None:
    made = read(tmp_path, log + final(OK, relay=MX2, h=ISO))
    *seen, _ = values(made, *NAMED)
    assert (seen, problems(made)) == (told, 0)
    assert [[row.get(name) for name in NAMED] for row in logref.read([log.strip()])] == told


TWICE = {"by ./": "./mail.log", "by its whole path": "{}/mail.log", "by a link": "link.log", "by a glob": "mail.*"}


@pytest.mark.parametrize("again", TWICE.values(), ids=TWICE)
def test_a_file_that_is_named_twice_is_read_once(
    again: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mail.log").write_text(final(OK, h=ISO))
    (tmp_path / "link.log").symlink_to("mail.log")
    assert sk.read_log(["mail.log", again.format(tmp_path)]).file.tolist() == ["mail.log"]


NO_HOST = {
    "RFC 3164": "Mar  2 09:14:05 postfix/smtp[41]: ",
    "RFC 5424": "<22>1 2026-03-02T09:14:05Z - postfix 41 - - ",
    "RFC 3339": ISO.replace("relay1", "-"),
    "bare": "",
}


@pytest.mark.parametrize("head", NO_HOST.values(), ids=NO_HOST)
def test_a_host_that_is_not_told_is_missing_and_costs_no_sender(head: str, tmp_path: Path) -> None:
    sender = f"{head}{QID}: from=<s@example.org>, size=7, nrcpt=1 (queue active)\n"
    (tmp_path / "mail.log.1").write_text(sender + final(OK, h=head, q="4XkP2q3Zr1z9tR"))
    (tmp_path / "mail.log").write_text(final(OK, h=head))
    for workers in (None, ThreadPoolExecutor(1)):
        made = sk.read_log(tmp_path, year=2026, tz="UTC", executor=workers)
        assert made.vantage.isna().all()
        assert values(made, "file", "sender") == [
            [str(tmp_path / "mail.log"), "s@example.org"], [str(tmp_path / "mail.log.1"), None],
        ]  # fmt: skip


def test_a_message_that_was_refused_is_forgotten_after_a_week() -> None:
    reader = postfix.Reader()
    for day in (1, 2, 9):
        front = ISO.replace("-02T", f"-{day:02}T").replace("/smtp", "/cleanup")
        qid = f"4XkP2q3Zr1z9t{day}"
        text = f"{front}{qid}: message-id=<{day}@example.org>\n{front}{qid}: milter-reject: END-OF-MESSAGE\n"
        if day == 1:
            text += f"{front}{QID}: message-id=<kept@example.org>\n"
            text += f"{front}{QID}: from=<s@example.org>, size=7, nrcpt=1 (queue active)\n"
        reader.feed(reader.heads(files.lines(text.encode(), day * 10), headers.Clock(datetime.now(UTC)))[0])
    known = reader.known().sort("message_id")
    assert known["message_id"].drop_nulls().to_list() == ["9@example.org", "kept@example.org"]
    assert known["sender"].drop_nulls().to_list() == ["s@example.org"]


TAIL = "relay1 postfix/smtp[41]: "
USED = {
    "docker compose": f"postfix-mailcow-1  | {H}",
    "docker compose, RFC 3339": f"mail-1 | {ISO}",
    "docker logs -t": f"2026-03-02T09:14:05.123456789Z {H}".replace(" 2 09", " 3 11"),
    "Kubernetes": f"2026-03-02T09:14:05.123456789Z stdout F {H}",
    "journalctl -o short-full": f"Mon 2026-03-02 09:14:05 UTC {TAIL}",
    "journalctl -o short-full, our zone": f"Mon 2026-03-02 09:14:05 KST {TAIL}",
    "journalctl -o short-precise": f"Mar 02 09:14:05.123456 {TAIL}",
    "journalctl -o short": f"Mar 02 09:14:05 {TAIL}",
    "FreeBSD -v": f"Mar  2 09:14:05 <mail.info> {TAIL}",
    "FreeBSD -v, by numbers": f"Mar  2 09:14:05 <2.6> {TAIL}",
}


@pytest.mark.parametrize("front", USED.values(), ids=USED)
def test_fronts_that_users_have(front: str, tmp_path: Path) -> None:
    made = read(tmp_path, final(OK) + f"{front}{REFUSED}\n" + final("421 x", "deferred", h=front), tz="UTC")
    assert values(made, "line", "mx_ip", "vantage", "kind") == [
        [n, "192.0.2.25", "relay1", kind] for n, kind in enumerate(("final", "connect_fail", "final"), 1)
    ]
    assert {str(at)[:19] for at in made.started_at} == {"2026-03-02 09:14:05"}
    assert problems(made) == 0


def test_docker_s_own_records(tmp_path: Path) -> None:
    record = json.dumps({"log": final(OK), "stream": "stdout", "time": "2026-03-02T09:14:05.1Z"})
    made = read(tmp_path, record.replace("<", "\\u003c") + "\n" + record + "\n" + record[:200] + "\n")
    assert values(made, "recipient", "vantage") == [["k@example.net", "relay1"]] * 2
    assert problems(made) == 1


def test_a_client_s_tls_is_no_server_s(tmp_path: Path) -> None:
    """smtpd's handshake with the same address, under the same process number, is not that of our connection."""
    ours = "TLS connection established to {}: TLSv1.3 with cipher OURS (256/256 bits)"
    theirs = "Anonymous TLS connection established from {}: TLSv1.2 with cipher THEIRS (256/256 bits)"
    inbound = H.replace("smtp[", "smtpd[") + theirs.format("mx.example.net[192.0.2.25]") + "\n"
    assert read(tmp_path, inbound + final(OK)).tls.isna().all()
    for trust in ("Anonymous", "Untrusted", "Trusted", "Verified"):
        made = read(tmp_path, f"{H}{trust} {ours.format(MX)}\n{inbound}{final(OK)}")
        assert values(made, "tls", "tls_cipher", "tls_trust") == [["TLSv1.3", "OURS", trust]]


def test_lines_with_a_problem_are_named_in_their_order(tmp_path: Path) -> None:
    odd = [final(OK, x="odd=7, "), f"{H}{QID}: host mx.example.net said: 450 no\n", final(OK, t="odd=7, ")]
    (problem,) = read(tmp_path, final(OK) + "".join(odd)).attrs["problems"]
    assert (problem["count"], problem["lines"]) == (3, [2, 3, 4])
