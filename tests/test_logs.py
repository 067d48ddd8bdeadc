"""Postfix logs of any shape: the fast path against the plain reader, the generator's truth, and by hand."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st

import smtpkit as sk
from smtpkit.logs import files
from tests import loggen, logref

SAME = """kind started_at vantage queue_id sender size_bytes message_id recipient orig_to mx_host mx_ip port
conn_use queue_s connect_s body_s dsn_log lossy stage outcome maybe_delivered code enhanced reply error tls
tls_cipher tls_trust""".split()
"""Columns that both readers fill."""


def plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The frame's rows as the reference gives them: None for missing, Python's own types."""
    return [
        {name: None if pd.isna(row[name]) else row[name] for name in SAME}
        for row in table.sort_values("line", kind="stable").astype("object").to_dict("records")
    ]


def judged(text: str) -> list[dict[str, Any]]:
    rows = logref.read(text.split("\n"))
    made = [{name: row.get(name) for name in SAME} for row in rows]
    return [row | {"mx_host": row["mx_host"] and row["mx_host"].lower()} for row in made]


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


SEEK = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking takes minutes here
QIDS = ("4XkP2q3Zr1z9tQ", "9A1B2C3D4E5")
IPS = ("192.0.2.14", "2001:db8::25")
WHO = (
    "kim@naver.example",
    '"a, b"@d.example',
    '"x>, relay=none"@d.example',
    '"no (status=sent"@D.example',
    "사람@도메인.example",
)
REPLIES = (
    "250 2.0.0 Ok: queued as 1A2B",
    "250-2.0.0 one 250 2.0.0 two",
    "550 5.1.1 <r@d>: 존재하지 않는 사용자 (#5.1.1)",
    "550-5.7.26 not 550-5.7.26 today 550 5.7.26 see, status=sent (250 ok)",
    "421 4.7.0 relay=mx2[192.0.2.99]:25, try later",
    "554 >, relay=none",
    "451",
    "999 odd",
)
STAGES = ("MAIL FROM", "RCPT TO", "end of DATA", "EHLO", "DATA")
WHILE = (
    "sending RCPT TO",
    "receiving the initial server greeting",
    "sending end of data -- message may be sent more than once",
)


@st.composite
def text_of_try(draw: st.DrawFn, host: str) -> str:
    kind = draw(st.sampled_from(["said", "greeting", "lost", "timeout", "connect", "tls", "dns"]))
    reply = draw(st.sampled_from(REPLIES))
    return {
        "said": f"host {host} said: {reply} (in reply to {draw(st.sampled_from(STAGES))} command)",
        "greeting": f"host {host} refused to talk to me: {reply}",
        "lost": f"lost connection with {host} while {draw(st.sampled_from(WHILE))}",
        "timeout": f"conversation with {host} timed out while {draw(st.sampled_from(WHILE))}",
        "connect": f"connect to {host}:25: {draw(st.sampled_from(['Connection refused', 'Connection timed out']))}",
        "tls": "Cannot start TLS: handshake failure",
        "dns": "Host or domain name not found. Name service error for name=d.example type=MX: Host not found",
    }[kind]


@st.composite
def message(draw: st.DrawFn) -> str:
    """One log line after the header."""
    qid, ip, who = draw(st.sampled_from(QIDS)), draw(st.sampled_from(IPS)), draw(st.sampled_from(WHO))
    host = f"MX1.naver.example[{ip}]"
    kind = draw(st.sampled_from("final final sent early connect tls from id removed held noise cut filter".split()))
    text = draw(text_of_try(host))
    relay = draw(
        st.sampled_from(
            ["none", f"{host}:25", f"{host}:25", "127.0.0.1[127.0.0.1]:10024", "virtual", "mx[private/lmtp]"]
        )
    )
    orig = draw(st.sampled_from(["", " orig_to=<me@ours.example>,", ' orig_to=<"a, b">,']))
    use = draw(st.sampled_from(["", " conn_use=3,"]))
    times = draw(
        st.sampled_from(["delay=1.2, delays=0.1/0.02/1/0.3", "delay=9e-05, delays=0/9e-05/0/0, tls=may", "delay=3"])
    )
    if kind == "early" and text.startswith(("connect", "Cannot", "Host")):
        kind = "connect"
    reply = draw(st.sampled_from(REPLIES))
    end = draw(st.sampled_from([")", ")", ")", ""]))
    return {
        "final": f"{qid}: to=<{who}>,{orig} relay={relay},{use} {times}, dsn=4.0.0, status=deferred ({text}{end}",
        "sent": f"{qid}: to=<{who}>,{orig} relay={host}:25,{use} {times}, dsn=2.0.0, status=sent ({reply}{end}",
        "early": f"{qid}: {text}",
        "connect": draw(
            st.sampled_from([f"connect to {host}:25: Connection refused", f"SSL_connect error to {host}:25: -1"])
        ),
        "tls": f"Untrusted TLS connection established to {host}:25: TLSv1.3 with cipher AES (256/256 bits)",
        "from": f"{qid}: from=<{draw(st.sampled_from(WHO))}>, size=1024, nrcpt=1 (queue active)",
        "id": f"{qid}: message-id=<1.{qid}@ours.example>",
        "removed": f"{qid}: removed",
        "held": f"{qid}: to=<{who}>, relay=none, {times}, dsn=4.4.1, status=deferred "
        f"(delivery temporarily suspended: {text})",
        "cut": f"{qid}: to=<{who}>, relay={host}",
        "filter": "connect to 127.0.0.1[127.0.0.1]:10024: Connection refused",
        "noise": f"NOQUEUE: reject: RCPT from x[192.0.2.9]: 554 no; from=<{who}> to=<{who}> proto=ESMTP",
    }[kind]


@st.composite
def whole_log(draw: st.DrawFn) -> str:
    lines = []
    for n, text in enumerate(draw(st.lists(message(), max_size=30))):
        pid, hour = draw(st.sampled_from(["[11]", "[11]", "[12]", "[12]", ""])), draw(st.integers(0, 2))
        lines.append(f"2026-03-02T{hour + n // 9:02}:00:{n:02}.5+09:00 relay1 postfix/smtp{pid}: {text}")
    return "\n".join(sorted(lines))


ODD_REPLY = (
    "2026-03-02T01:00:04.5+09:00 relay1 postfix/smtp[12]: 9A1B2C3D4E5: to=<kim@naver.example>, relay=none, "
    "delay=3, dsn=4.0.0, "
    "status=deferred (host MX1.naver.example[2001:db8::25] said: 999 odd (in reply to DATA command))"
)


@pytest.mark.slow
@example(ODD_REPLY, 1 << 20)
@settings(phases=SEEK, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(whole_log(), st.sampled_from([300, 1000, 1 << 20]))
def test_the_fast_path_gives_the_plain_readers_rows(tmp_path: Path, text: str, block: int) -> None:
    """Whatever the order of the lines, and wherever a block ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", block)
        path = written(tmp_path / "mail.log", text)
        assume(judged(text))
        table = sk.read_log(path, mta="postfix")
    assert plain(table) == judged(text)


def test_a_generated_week_is_counted_as_it_happened(tmp_path: Path) -> None:
    truth = loggen.write(tmp_path / "mail.log", days=7, per_day=60, seed=5)
    table = sk.read_log(tmp_path / "mail.log")
    assert table.attrs["problems"] == []
    assert table.mx_ip.value_counts().to_dict() == dict(truth.attempts)
    bad = table[table.outcome != "accepted"].mx_ip.value_counts().to_dict()
    assert bad == {ip: n for ip, n in truth.failed.items() if n}
    assert table.attrs["skipped"]["suspended"]["lines"] == truth.lines["suspended"]
    assert plain(table) == judged((tmp_path / "mail.log").read_text())
