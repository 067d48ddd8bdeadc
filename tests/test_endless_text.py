"""A server may answer 65,536 octets of anything: whoever reads a reply must be done with it at once.

Regular expressions that look back and forth take the square of the time, minutes for such a text, and the kernel
hangs. The limit below is the test's own; each of these readers needs less than a second.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

import smtpkit as sk
from smtpkit import escape, evidence, plot, words
from tests import frames
from tests.sampling import some

OCTETS = 65_536
UNITS = {
    "nul": "\\x00", "letters": "a", "digits": "1", "address": "1.", "labels": "a.", "boxes": "a@", "at": "@",
    "less": "<", "more": ">", "tags": "<a>", "square": "[", "round": "(", "colon": ":", "hex": "f:", "dash": "-",
    "blank": " ", "words": "a ", "numbers": "1 ", "lines": "\n", "codes": "550 ", "replies": "550-x\n",
    "enhanced": "5.7.1 ", "quote": '"', "backslash": "\\", "equals": "=", "parameter": "a=", "dot": ".",
    "header": "x:", "id": "1a", "log": "host a[1.2.3.4] said: ", "korean": "\uac00", "url": "http://",
    "comma": "1,", "blocked": "ipfrom(", "percent": "%",
}  # fmt: skip

BOUNCE = """From: <>
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain

{text}
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example

Final-Recipient: rfc822; box@daum.example
Action: failed
Status: 5.7.1
Remote-MTA: dns; mx.daum.example (192.0.2.13)
Diagnostic-Code: smtp; 554 {text}
--b--
"""


def endless(unit: str) -> str:
    return (UNITS[unit] * OCTETS)[:OCTETS]


def refusing(texts: list[str]) -> pd.DataFrame:
    """Four servers asked once for each text, with which the third refuses."""
    frame = frames.rounds(4, len(texts), lambda i, r, h: "bad" if i == 2 else "good")
    frame.loc[frame.outcome.eq("rejected"), "reply"] = [f"554 {text}" for text in texts]
    return frame


@pytest.mark.timeout(40)
@pytest.mark.parametrize("unit", some(UNITS))
def test_a_long_reply_is_read_at_once(unit: str) -> None:
    text = endless(unit)
    found = sk.diagnose(refusing([text] * 5))
    assert [cause.values for cause in found.causes] == [("192.0.2.13",)]
    assert isinstance(sk.classify(text, 554).reason, str)
    assert "192.0.2.13" in str(sk.report(found, own="box@daum.example").letter)


@pytest.mark.slow
@pytest.mark.timeout(40)
@pytest.mark.parametrize("unit", UNITS)
def test_a_long_reply_is_drawn_and_shown_at_once(unit: str) -> None:
    frame = refusing([endless(unit)] * 5)
    found = sk.diagnose(frame)
    assert "192.0.2.13" in sk.report(found, own="box@daum.example").page
    figure = plot.grid(frame, found)
    assert figure.axes
    plt.close(figure)


@pytest.mark.timeout(40)
@pytest.mark.parametrize("unit", some(UNITS))
def test_a_long_text_is_shown_and_kept_at_once(unit: str, tmp_path: Path) -> None:
    text = endless(unit)
    assert escape.visible(text).startswith(escape.visible(text[:9]))
    assert escape.cell(text).removeprefix("'") == escape.visible(text)
    assert evidence.queue_id(text) is None or evidence.queue_id(text) in text
    assert words.ending(text).get("code") in (None, 550)
    assert words.answer(text).get("code") in (None, 550)
    assert "\n" not in escape.one_line(text)
    (tmp_path / "bounce.eml").write_text(BOUNCE.format(text="".join(text.splitlines())), "utf-8")
    assert list(sk.read_bounces(tmp_path / "bounce.eml").mx_ip) == ["192.0.2.13"]
    table = pd.DataFrame(
        {"started_at": ["2026-03-01T00:00:00Z"], "mx_ip": ["192.0.2.13"], "reply": [f"554 {text}"]}
    )
    assert list(sk.read_table(table).code) == [554]


@pytest.mark.timeout(40)
def test_a_page_of_blanks_is_read_at_once(tmp_path: Path) -> None:
    page = "&#32;" * 400_000 + "<p>r@d.example:<br>550 5.1.1 no</p>"
    (tmp_path / "bounce.eml").write_text(f"From: <>\nContent-Type: text/html\n\n{page}\n")
    assert list(sk.read_bounces(tmp_path / "bounce.eml").code) == [550]
