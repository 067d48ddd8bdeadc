"""checks: the whole preflight, its deadline, recording and replay, the joined sentence, rules, the page, scores."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer
from typing import Any

import pandas as pd
import pytest

from smtpkit import checks
from smtpkit.catalogue import rows as catalogue
from smtpkit.checks import dnsbl
from smtpkit.checks.found import COLUMNS, STATUSES, Row, frame, rules
from smtpkit.cli import EXIT, main
from smtpkit.errors import InvalidInput
from smtpkit.message import build_message
from tests.fake_network import FakeNetwork, reverse
from tests.frames import only, rounds

IP, HELO = "198.51.100.7", "mail.ours.example"
ZONE: dict[str, Any] = {
    "ours.example": {
        "MX": ["10 mail.ours.example"],
        "TXT": ["v=spf1 ip4:198.51.100.7 -all"],
        "SOA": ["ns. host. 1 2 3 4 5"],
    },
    "mail.ours.example": {"A": [IP], "TXT": ["v=spf1 a -all"]},
    reverse(IP, "in-addr.arpa"): {"PTR": ["mail.ours.example"]},
    "_dmarc.ours.example": {"TXT": ["v=DMARC1; p=none; rua=mailto:d@ours.example"]},
    "_mta-sts.ours.example": {"TXT": ["v=STSv1; id=1"]},
    "mta-sts.ours.example": {"A": ["192.0.2.80"]},
    reverse("127.0.0.2", "zen.spamhaus.org"): {"A": ["127.0.0.2"]},
    reverse(IP, "zen.spamhaus.org"): {"A": ["127.0.0.3"], "TXT": ["<script>alert(1)</script>\x1b"]},
}


def message() -> Any:
    return build_message(sender="Jo <me@ours.example>", to="r@daum.example", subject="hi", text="hi")


def test_one_call_one_frame() -> None:
    checked = checks.preflight("Ours.Example", IP, network=FakeNetwork(ZONE), message=message())
    assert tuple(checked.columns) == COLUMNS
    assert checked.status.cat.categories.tolist() == list(STATUSES)
    assert not checked.isna().any().any()
    status = checked.drop_duplicates("check").set_index("check").status
    assert status[["spf", "spf_helo", "ptr", "helo", "mx", "soa", "dmarc"]].eq("pass").all()
    assert status["dkim"] == "fail", "the message is not signed"
    assert status["message: from"] == "pass"
    assert not checked.check.str.contains("align").any()
    assert checked.source.ne("").all(), "every row says who says so"
    assert checked[checked.status == "fail"].advice.ne("").sum() >= 2


@pytest.mark.parametrize("status", ["servfail", "timeout"])
def test_dead_dns_is_unknown_everywhere_and_never_no_record(status: str) -> None:
    class Dead(FakeNetwork):
        def resolve(self, name: str, kind: str) -> Any:
            return super().resolve("dead", kind)

    checked = checks.preflight("ours.example", IP, "mail.ours.example", "s1", network=Dead({"dead": status}))
    asked = checked[checked.check != "rule"]
    assert set(asked.status) == {"unknown"}, asked[asked.status != "unknown"]
    assert not asked.evidence.str.contains("no record|no SPF|missing").any()
    assert checked[checked.check == "rule"].status.eq("unknown").all()


def test_a_question_is_asked_once_and_after_the_deadline_not_at_all() -> None:
    network = FakeNetwork({})
    within = checks.Within(network, 0.2)
    for name in ("a.example", "A.example."):
        assert within.resolve(name, "A").status == "nxdomain"
    time.sleep(0.2)
    assert within.resolve("b.example", "A").status == "timeout"
    within.end()
    assert network.asked == [("a.example", "A")]


def test_every_check_ends_within_the_deadline() -> None:
    held = threading.Event()

    class Hangs(FakeNetwork):
        def resolve(self, name: str, kind: str) -> Any:
            if name.startswith("_") or name.endswith((".arpa", ".org")):
                held.wait(30)
            return super().resolve(name, kind)

    begun = time.monotonic()
    try:
        checked = checks.preflight("ours.example", IP, HELO, network=Hangs(ZONE), deadline=0.4)
        assert time.monotonic() - begun < 3
    finally:
        held.set()
    known = checked.drop_duplicates("check").set_index("check")
    assert known.status[["spf", "helo", "mx", "soa"]].eq("pass").all(), "what was known in time stays"
    assert known.status[["ptr", "dnsbl", "dmarc_record", "mta_sts"]].eq("unknown").all()
    assert "no answer within the 0.4 s for all checks" in known.evidence["ptr"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"domain": "ours..example"}, "is not a host name"),
        ({"domain": "ours.example\r\nx"}, "control character"),
        ({"ip": "198.51.100"}, "is no IP address"),
        ({"message": "text"}, "is str, not bytes"),
        ({"deadline": 0}, "is no number above 0"),
        ({"mail_from": "me@ours .example"}, "is not a host name"),
    ],
)
def test_bad_input_is_refused_before_anything_is_asked(given: dict[str, Any], words: str) -> None:
    network = FakeNetwork(ZONE, helo="mail.ours.example")
    with pytest.raises(InvalidInput, match=words):
        checks.preflight(**{"domain": "ours.example", "ip": IP, "network": network} | given)
    assert network.asked == []


def test_hostile_octets_are_no_exception() -> None:
    for octets in (
        b"",
        b"\x00\xff",
        b"From: a@b\r\nFrom: c@d\r\n\r\n",
        b"DKIM-Signature: a=\xff;=;d=..\r\n\r\n",
    ):
        checked = checks.preflight("ours.example", IP, network=FakeNetwork(ZONE), message=octets)
        assert "dmarc" in set(checked.check)


def test_international_domains_are_asked_by_their_a_label() -> None:
    network = FakeNetwork({})
    checks.preflight("도메인.example", network=network)
    assert ("_dmarc.xn--hq1bm8jm9l.example", "TXT") in network.asked


def test_a_recording_shows_the_same_preflight_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTPKIT_DQS_KEY", "s3cretkey")
    path, mail = tmp_path / "tuesday.jsonl", message()
    then = checks.preflight("ours.example", IP, network=FakeNetwork(ZONE), message=mail, record=path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "s3cretkey" not in path.read_text()
    monkeypatch.delenv("SMTPKIT_DQS_KEY")
    again = checks.preflight("ours.example", IP, network=checks.Replay(path), message=mail)
    pd.testing.assert_frame_equal(then, again)


def test_what_was_not_recorded_is_unknown_and_a_broken_file_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    checks.preflight("ours.example", network=FakeNetwork(ZONE), record=path)
    replay = checks.Replay(path)
    assert replay.resolve("OURS.example", "TXT").rows == ("v=spf1 ip4:198.51.100.7 -all",)
    assert replay.resolve("ours.example", "TLSA").detail == "not in the recording"
    later = checks.preflight("other.example", network=replay)
    assert set(later.status[later.check != "rule"]) == {"unknown"}
    for line in ("{", "[]", '{"name": 1}', json.dumps({"name": "a", "kind": "A", "rows": [], "odd": 1})):
        path.write_text(line)
        with pytest.raises(InvalidInput, match=r"r\.jsonl line 1 is no recorded answer"):
            checks.Replay(path)


def lists(**zones: str) -> pd.DataFrame:
    """Preflight rows about block lists, status by zone (of its first label)."""
    return frame([Row("dnsbl", f"{IP} in {zone}.spamhaus.org", status, "") for zone, status in zones.items()])


LISTED = lists(zen="fail", a="pass", b="pass")
CLEAR = lists(a="unknown", **{f"z{n}": "pass" for n in range(16)})


@pytest.mark.parametrize(
    ("said", "bad", "sentence"),
    [
        pytest.param(
            CLEAR, (2,),
            "Listed in none of 17 lists (1 gave no answer), yet 1 of 4 MX IPs (192.0.2.13) refuses as blacklisted: "
            "a stale copy there, or its own list.", id="stale",
        ),
        pytest.param(
            CLEAR, (0, 1, 2, 3), "Listed in none of 17 lists (1 gave no answer), yet all 4 MX IPs refuse as "
            "blacklisted: the receiver's own list, or one not asked here.", id="own list",
        ),
        pytest.param(
            LISTED, (0, 1, 2, 3), "Listed in zen.spamhaus.org, and all 4 MX IPs refuse as blacklisted: "
            "ask that list for removal first.", id="listed",
        ),
        pytest.param(
            LISTED, (1, 2), "Listed in zen.spamhaus.org, and only 2 of 4 MX IPs (192.0.2.12, 192.0.2.13) refuse as "
            "blacklisted: the others don't use that list, or are behind it.", id="listed, some",
        ),
        pytest.param(
            LISTED, (), "Listed in zen.spamhaus.org, and none of 4 MX IPs refuses as blacklisted.", id="none",
        ),
    ],
)  # fmt: skip
def test_lists_and_servers_are_held_together(said: pd.DataFrame, bad: tuple[int, ...], sentence: str) -> None:
    assert checks.joined(said, rounds(4, 3, only(*bad))) == sentence


def test_a_lookup_frame_does_as_well() -> None:
    zone = {reverse("127.0.0.2", "zen.spamhaus.org"): {"A": ["127.0.0.2"]}}
    table = dnsbl.lookup(IP, FakeNetwork(zone), ["zen.spamhaus.org", "bl.spamcop.net"])
    said = checks.joined(table, rounds(4, 3, only(2)))
    assert said.startswith("Listed in none of 2 lists (1 gave no answer), yet 1 of 4 MX IPs (192.0.2.13) refuses")


def test_a_lookup_that_the_receiver_was_refused_is_its_own_fault() -> None:
    tried = rounds(2, 2, only(1))
    bad = tried.mx_ip == "192.0.2.12"
    tried.loc[bad, "reply"] = "550 5.7.1 blocked using zen.spamhaus.org; Error: open resolver"
    said = checks.joined(CLEAR, tried)
    assert "none of 2 MX IPs refuses as blacklisted. 192.0.2.12 says that its own look-up was refused" in said
    assert said.endswith("that is its resolver's fault, not a listing.")


def test_rules_follow_their_checks() -> None:
    found = [
        Row("spf", "", "fail", ""),
        Row("dkim", "", "pass", ""),
        Row("dmarc_record", "", "warn", "p=none"),
    ]
    found += [
        Row("dnsbl", f"{IP} in bl.spamcop.net", "fail", ""),
        Row("dnsbl", f"{IP} in zen.spamhaus.org", "pass", "not listed"),
    ]
    found += [Row("message: one_click", "", "pass", "no List-Unsubscribe")]
    told = {row.subject: row for row in rules(found)}
    either = told["Gmail, all mail: SPF or DKIM passes"]
    assert (either.status, either.evidence) == ("pass", "spf fail, dkim pass")
    both = next(row for name, row in told.items() if name.startswith("Gmail, bulk mail: SPF and DKIM"))
    assert (both.status, both.advice[:13]) == ("fail", "Answered with")
    assert "5.7.27" in both.advice
    assert told["Gmail, bulk mail: A DMARC record, p=none is enough"].status == "pass"
    assert told["Yahoo, all mail: The address is not on Spamhaus (553 and 554 otherwise)"].status == "pass"
    assert next(row for name, row in told.items() if "One-click" in name).status == "unknown"
    rate = next(row for name, row in told.items() if "0.3 %" in name)
    assert (rate.status, rate.evidence) == ("unknown", "cannot be seen from here")
    assert {name.partition(",")[0] for name in told} >= {
        "Gmail",
        "Yahoo",
        "Outlook.com",
        "iCloud",
        "Naver",
        "Kakao",
    }
    assert all(row.source.count("(") and row.source[0] != " " for row in told.values())


def test_the_page_shows_words_beside_colours_and_nothing_hostile() -> None:
    html = checks.page(checks.preflight("ours.example", IP, network=FakeNetwork(ZONE), message=message()))
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b" in html
    assert "http-equiv" in html
    assert not [word for word in (" src=", "@import", "url(", " href=") if word in html], "nothing is fetched"
    for status, mark in (("pass", "✔"), ("warn", "▲"), ("fail", "✘"), ("unknown", "?")):
        assert f'<tr class="{status}"><td>{mark} {status}</td>' in html
    assert html.count('<th class="part"') == 8
    assert html.count("zen.spamhaus.org") == 1
    empty = checks.page(frame([]))
    assert "0 fail" in empty


class Engine(BaseRequestHandler):
    """Answers one request with `said`, whole requests only."""

    said = b""

    def handle(self) -> None:
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += self.request.recv(65536)
        size = int(heard.lower().partition(b"content-length: ")[2].split()[0])
        while len(heard.partition(b"\r\n\r\n")[2]) < size:
            heard += self.request.recv(65536)
        type(self).heard = heard  # type: ignore[attr-defined]  # for the test to read
        self.request.sendall(self.said)


@contextmanager
def engine(said: bytes) -> Iterator[tuple[str, type[Engine]]]:
    handler = type("Said", (Engine,), {"said": said})
    with TCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}", handler
        server.shutdown()
        thread.join()


ENVELOPE = {"ip": IP, "helo": "mail.ours.example", "sender": "me@ours.example", "recipient": "r@daum.example"}


def rspamd_says(**symbols: float) -> bytes:
    told = {
        name: {"name": name, "score": points, "description": f"about {name}"} for name, points in symbols.items()
    }
    body = json.dumps(
        {"action": "no action", "score": sum(symbols.values()), "required_score": 15.0, "symbols": told}
    )
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body.encode()


def test_rspamd_is_asked_with_the_envelope() -> None:
    with engine(rspamd_says(R_SPF_ALLOW=-0.2, R_SPF_FAIL=1.0, ONCE_RECEIVED=0.1, RBL_NIXSPAM_FAIL=0)) as (
        place,
        handler,
    ):
        table = checks.score(message(), rspamd=f"http://{place}", **ENVELOPE)
    assert table.symbol.tolist() == ["R_SPF_FAIL", "R_SPF_ALLOW", "ONCE_RECEIVED", "RBL_NIXSPAM_FAIL"]
    assert (table.score[0], table.limit[0], table.verdict[0]) == (pytest.approx(0.9), 15.0, "no action")
    heard = handler.heard  # type: ignore[attr-defined]  # set by the handler
    assert b"POST /checkv2" in heard
    assert b"IP: 198.51.100.7\r\n" in heard
    assert heard.endswith(message().octets[-6:])


@pytest.mark.parametrize("symbol", ["R_SPF_DNSFAIL", "DMARC_DNSFAIL", "R_DKIM_TEMPFAIL", "RBL_SENDERSCORE_FAIL"])
def test_a_score_is_refused_when_the_engines_dns_failed(symbol: str) -> None:
    with engine(rspamd_says(HFILTER_HOSTNAME_UNKNOWN=2.5, **{symbol: 0})) as (place, _):
        (row,) = checks.score(message(), rspamd=f"http://{place}", **ENVELOPE).itertuples()
    assert (row.verdict, pd.isna(row.score)) == ("refused", True)
    assert symbol in row.description


def test_spamd_is_asked_for_its_report() -> None:
    said = (
        b"SPAMD/1.1 0 EX_OK\r\nContent-length: 400\r\nSpam: False ; 1.1 / 5.0\r\n\r\nContent analysis details:"
        b"   (1.1 points, 5.0 required)\n\n pts rule name              description\n---- --------------- ----\n"
        b"-0.0 SPF_PASS               SPF: sender matches SPF record\n"
        b" 1.1 MIME_HTML_ONLY         BODY: Message only\n"
        b"                            has text/html MIME parts\n"
    )
    with engine(said) as (place, handler):
        table = checks.score(message(), spamd=place, **ENVELOPE)
    assert table[["symbol", "points"]].values.tolist() == [["SPF_PASS", 0.0], ["MIME_HTML_ONLY", 1.1]]
    assert table.description[1] == "BODY: Message only has text/html MIME parts"
    assert (table.verdict[0], table.score[0], table.limit[0]) == ("ham", 1.1, 5.0)
    assert b"Received: from mail.ours.example" in handler.heard  # type: ignore[attr-defined]  # set by the handler


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 500 no\r\n\r\n", b"SPAMD/1.1 76 Bad header\r\n\r\n", b"\xff" * 99]
)
def test_an_engine_that_talks_nonsense_is_refused(said: bytes) -> None:
    with engine(said) as (place, _):
        table = checks.score(message(), rspamd=place, spamd=place, **ENVELOPE)
    assert table.verdict.tolist() == ["refused", "refused"]
    with pytest.raises(InvalidInput):
        checks.score(message(), rspamd="127.0.0.1:1", **ENVELOPE | {"helo": "a\r\nIP: 1.1.1.1"})


def test_no_engine_there_is_a_row() -> None:
    table = checks.score(message(), rspamd="http://127.0.0.1:9", spamd="127.0.0.1:9", **ENVELOPE)
    assert table.verdict.tolist() == ["refused", "refused"]
    assert table.description.str.contains("refused").all()


def test_the_command_says_the_worst_by_its_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, preflight = (
        {name: told for name, told in ZONE.items() if not name.endswith("spamhaus.org")},
        checks.preflight,
    )
    monkeypatch.setattr(checks, "preflight", partial(preflight, network=FakeNetwork(good)))
    assert main(["preflight", "ours.example", "--ip", IP]) == EXIT["unknown"], "MTA-STS policy: not to be asked for"
    text = capsys.readouterr().out
    assert "pass     spf: MAIL FROM ours.example from 198.51.100.7: pass: ip4:198.51.100.7; 0 of 10" in text
    assert "\x1b" not in text
    monkeypatch.setattr(checks, "preflight", partial(preflight, network=FakeNetwork({})))
    main(["preflight", "ours.example", "--json"])
    assert {tuple(json.loads(line)) for line in capsys.readouterr().out.splitlines()} == {COLUMNS}


@pytest.mark.parametrize(("status", "code"), [("pass", 0), ("warn", 3), ("unknown", 4), ("fail", 1)])
def test_rules_and_what_was_not_asked_do_not_count(status: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row("mx", "", status, "x"), Row("soa", "", "pass", "x"), Row("rule", "", "fail", "x")]
    rows += [Row("dmarc", "", "unknown", "not asked: no message given")]
    monkeypatch.setattr(checks, "preflight", lambda domain, **more: frame(rows))
    assert main(["preflight", "ours.example"]) == code


def test_every_finding_of_the_table_can_come_up_and_says_what_to_do() -> None:
    package = Path(checks.__file__).parents[1]
    files = [*package.glob("checks/*.py"), package / "identity.py", package / "mx.py"]
    text = "".join(path.read_text("utf-8") for path in files)
    spoken = {"permerror", "softfail", "neutral"}  # spftrace's words
    for row in catalogue("preflight.csv"):
        assert f'"{row["finding"]}"' in text or row["finding"] in spoken, row
        assert row["advice"] or row["status"] == "pass", row
