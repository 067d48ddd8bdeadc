"""Letters and verdicts of realistic weeks of logs: the same counts in both, and nothing said that was not seen."""

from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit import packet
from smtpkit.packet import report


@pytest.fixture(autouse=True)
def _no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second and is not asked here."""
    monkeypatch.setattr(packet, "_charts", lambda frame, diagnosis: [])


def week(n: int = 160, gap: str = "5min", **more: Any) -> pd.DataFrame:
    """Attempts at four MX IPs of one receiver in turn; all got through."""
    f = pd.DataFrame({"started_at": pd.date_range("2026-11-24", periods=n, freq=gap, tz="UTC")})
    f["mx_ip"] = [f"192.0.2.{11 + i % 4}" for i in range(n)]
    f = f.assign(domain="daum.example", sender_ip="198.51.100.7", sender="me@ours.example", port=25)
    f["recipient"] = [f"u{i % 23}@daum.example" for i in range(n)]
    return f.assign(mx_host="mx.daum.example", **more, **answer("250 2.0.0 Ok: queued", "body"))


def answer(reply: str | None, stage: str, error: str | None = None) -> dict[str, Any]:
    """The columns of one answer; of none, if there is no reply."""
    code = int(reply[:3]) if reply else pd.NA
    outcome = {2: "accepted", 4: "deferred", 5: "rejected"}[code // 100] if reply else "failed"
    enhanced = reply.split()[1] if reply and reply[4:6] in ("2.", "4.", "5.") else None
    return {"code": code, "enhanced": enhanced, "reply": reply, "stage": stage, "outcome": outcome, "error": error}


def told(f: pd.DataFrame, where: Any, reply: str | None, stage: str = "rcpt", error: str | None = None) -> None:
    """Let these rows be answered so."""
    for name, value in answer(reply, stage, error).items():
        f[name] = f[name].astype("object").mask(where, value)


def line(made: packet.Packet, head: str) -> str:
    """The letter's line of that head."""
    (found,) = [one for one in str(made.letter).split("\n") if one.startswith(f"    {head} ")]
    return found[14:]


def behind_one_address() -> pd.DataFrame:
    """Four back ends behind one address, one of them stale; six acceptances do not say which it was."""
    f = week(mx_ip="192.0.2.9", gap="4min", reply_host=[f"be{i % 4}.daum.example" for i in range(160)])
    told(f, f.reply_host.eq("be3.daum.example"), "554 5.7.1 198.51.100.7 blocked by local blacklist", "mail")
    return f.assign(reply_host=f.reply_host.mask(f.index.isin(range(0, 160, 28))))


def test_a_row_of_no_known_back_end_is_no_sibling() -> None:
    found = sk.diagnose(f := behind_one_address())
    unknown = f.reply_host.isna().sum()
    assert found.causes[0].values == ("be3.daum.example",)
    assert f"the 3 other back ends refused 0 of {120 - unknown}" in found.verdict
    assert line(made := report(found), "Contrast").startswith(f"0 of {120 - unknown} refused by your 3 other back ends")
    assert made.table.backend.notna().all()


def test_another_back_end_behind_the_same_address_is_a_contrast() -> None:
    quoted = report(behind_one_address()).table
    good = quoted[quoted.line.str.startswith("A")]
    assert len(good) == 5
    assert good.backend.nunique() == 3, "new ones first"


def test_a_server_stands_once_at_you_whether_a_line_has_a_port_or_not() -> None:
    f = week(port=pd.array([25, pd.NA, pd.NA, pd.NA] * 40, dtype="Int32"))
    f.loc[40:, "port"] = 25
    f.loc[:40:8, "mx_host"] = None
    told(f, f.mx_ip.isin(["192.0.2.13", "192.0.2.14"]), "554 5.7.1 198.51.100.7 is on our blacklist", "mail")
    servers = "mx.daum.example [192.0.2.13]:25, mx.daum.example [192.0.2.14]:25"
    assert line(report(f), "At you") == servers
