"""What is shown is inert, what is shared names nobody."""

import ipaddress
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import smtpkit as sk
from smtpkit import attempts
from smtpkit.styling import redact, style
from tests.frames import only, rounds

EVIL = "<img src=x onerror=run()>\x1b[2J\u202e"


def test_hostile_text_is_inert_in_cells_index_columns_and_names() -> None:
    index = pd.MultiIndex.from_tuples([(EVIL, 1), ("b", 2)], names=[EVIL, "n"])
    columns = pd.Index([EVIL, "=1+1"], name=EVIL)
    page = style(pd.DataFrame([[EVIL, 1.5], [None, np.nan]], index=index, columns=columns)).to_html()
    assert "<img" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert page.count("&lt;img src=x onerror=run()&gt;\\x1b[2J\\u202e") == 5


def test_repeated_labels_are_shown_as_they_are() -> None:
    frame = rounds(2, 2, only(1))[["mx_ip", "outcome"]]
    twice = pd.concat([frame, frame])
    twice = pd.concat([twice, twice], axis=1)
    page = style(twice).to_html()
    assert page.count("<tr>") == 1 + 8
    assert page.count("rejected") == 8
    assert page.count(">mx_ip</th>") == 2
    names = pd.MultiIndex.from_tuples([("a", "<b>"), ("a", "<b>")])
    assert (
        style(pd.DataFrame([["<i>", "x"]] * 2, index=[EVIL] * 2, columns=names)).to_html().count("&lt;i&gt;") == 2
    )


def test_categories_times_and_missing_values_read_well() -> None:
    page = style(rounds(2, 2, only(1))).to_html()
    assert re.search(r"<td [^>]*>2026-11-24 00:30:00\+00:00</td>", page)
    assert not re.search("nan|NaT|<NA>|&lt;NA&gt;", page)
    assert re.search(r"background-color: ?#F6D5C3[^}]*color: ?#1B1B1B", page)


def test_long_frames_are_cut_and_say_so() -> None:
    page = style(pd.DataFrame({"n": range(1234)})).to_html()
    assert page.count("<tr>") == 201
    assert "the first 200 of 1,234 rows" in page
    assert "first" not in style(pd.DataFrame({"n": range(200)})).to_html()


def test_an_empty_frame_has_its_heads() -> None:
    assert "attempt_id" in style(attempts.frame()).to_html()


def test_local_parts_become_stable_tokens_everywhere_and_domains_stay() -> None:
    frame = pd.DataFrame(
        {
            "recipient": ["Jo@daum.example", "kim@daum.example", "jo@daum.example", "me@daum.example", None],
            "reply": [
                "550 <jo@daum.example>: no such user 'kim@daum.example'",
                "x",
                "",
                "me@daum.example ok",
                None,
            ],
            "code": [550, 250, 250, 250, 421],
        },
        index=["a@b.example", "1", "2", "3", "4"],
    )
    made = redact(frame, keep=["ME@daum.example"], key="k")
    jo, kim, again, me, none = made.recipient
    assert jo == again != kim
    assert re.fullmatch(r"u-[0-9a-f]{8}@daum\.example", jo)
    assert made.reply.iloc[0] == f"550 <{jo}>: no such user '{kim}'"
    assert me == "me@daum.example"
    assert made.reply.iloc[3] == "me@daum.example ok"
    assert pd.isna(none)
    assert made.index[0].startswith("u-")
    assert made.code.tolist() == frame.code.tolist()
    assert made.dtypes.tolist() == frame.dtypes.tolist()
    assert frame.recipient.iloc[0] == "Jo@daum.example", "the caller's frame stays"
    assert redact(frame, key="k").equals(redact(frame, key="k"))
    assert redact(frame, key="other").recipient.iloc[0] != jo
    assert redact(frame).recipient.iloc[0] == redact(frame).recipient.iloc[0], "stable within a process"


def test_an_attempts_frame_keeps_its_schema() -> None:
    frame = rounds(3, 3, only(1))
    made = redact(frame, keep=["news@ours.example"], ips=True, key="k")
    assert [str(kind) for kind in made.dtypes] == [str(kind) for kind in frame.dtypes]
    text = made.to_csv()
    assert "r@daum.example" not in text
    assert "news@ours.example" in text
    assert not re.search(r"192\.0\.2\.\d|198\.51\.100\.\d", text)
    assert made.mx_ip.nunique() == 3
    us = made.sender_ip.iloc[0]
    assert f"[{us}] blocked" in made.reply[made.code == 554].iloc[0]


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        pytest.param("blocked 192.0.2.14.", "192.0.2.14", id="v4 before a dot"),
        pytest.param("[IPv6:2001:db8::1]", "2001:db8::1", id="v6 literal"),
        pytest.param("from ::ffff:192.0.2.1 x", "192.0.2.1", id="mapped"),
        pytest.param("192.0.2.14: no", "192.0.2.14", id="v4 before a colon"),
        pytest.param("2001:db8::7: no", "2001:db8::7", id="v6 before a colon"),
        pytest.param("to=<a.b+c@daum.example>", "a.b+c", id="plus"),
        pytest.param('"odd name"@daum.example', "odd name", id="quoted"),
        pytest.param("한글@daum.example", "한글", id="utf-8"),
        pytest.param("mailto:jo@daum.example?x", "jo@", id="mailto"),
        pytest.param("SRS0=ab=cd=ours.example=jo@relay.example", "jo@", id="srs"),
        pytest.param("a@b@daum.example", "a@b@", id="two signs"),
        pytest.param("o'neil@daum.example", "o'", id="apostrophe"),
        pytest.param("jo@localhost", "jo@", id="one label"),
        pytest.param("jo@메일.한국", "jo@", id="Korean domain"),
        pytest.param("jo@[192.0.2.1]", "jo@", id="domain literal"),
        pytest.param("http://spf.example/Why?s=mfrom;id=jo%40d.example;r=mx", "jo%40", id="coded in a URL"),
        pytest.param("IP:192.0.2.14", "192.0.2.14", id="v4 behind a colon"),
        pytest.param("IP192.0.2.14", "192.0.2.14", id="v4 behind a letter"),
        pytest.param("_192.0.2.14_", "192.0.2.14", id="v4 in a word"),
        pytest.param("아이피192.0.2.14이", "192.0.2.14", id="v4 in Korean"),
        pytest.param("ip:2001:db8::7", "2001:db8::7", id="v6 behind a colon"),
        pytest.param("아이피2001:db8::7이", "2001:db8::7", id="v6 in Korean"),
        pytest.param("from 2001:db8::.", "2001:db8::", id="v6 that ends in colons before a dot"),
    ],
)
def test_addresses_are_found_in_running_text(text: str, gone: str) -> None:
    made = redact(pd.DataFrame({"reply": [text]}), ips=True, key="k").reply.iloc[0]
    assert gone not in made
    assert re.search(r"u-[0-9a-f]{8}@|ip-[0-9a-f]{8}", made)


@pytest.mark.parametrize("text", ["5.7.1", "12:30:05", "4.7.500", "1.2.3.4.5", "999.1.1.1", "at 10:00", "std::map"])
def test_what_is_no_address_stays(text: str) -> None:
    assert redact(pd.DataFrame({"reply": [text]}), ips=True, key="k").reply.iloc[0] == text


@given(st.ip_addresses(), st.sampled_from(["{}", "[{}]", "from {} port 25", "({})", "{},"]))
def test_every_ip_is_hidden_however_it_stands(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, how: str) -> None:
    made = redact(pd.DataFrame({"a": [how.format(ip)]}), ips=True, key="k").a.iloc[0]
    assert made == how.format(f"ip-{made.split('ip-')[1][:8]}")


def test_a_category_of_addresses_is_redacted_too() -> None:
    frame = pd.DataFrame({"who": pd.Categorical(["jo@a.example", None, "jo@a.example"])})
    made = redact(frame, key="k").who
    assert made[0] == made[2] != "jo@a.example"
    assert "jo@" not in str(made.dtype)


def test_a_korean_particle_hides_no_address() -> None:
    shown = redact(pd.DataFrame({"r": ["550 192.0.2.11에서 보낸 메일은 거부됩니다"]}), ips=True, key="k").r[0]
    assert "192.0.2.11" not in shown
    both = pd.DataFrame({"r": ["jo@daum.example에게 보낸 메일", "me@daum.example에서", "jo@메일.한국"]})
    to_jo, kept, idn = redact(both, keep=["me@daum.example"], key="k").r
    assert to_jo == redact(pd.DataFrame({"r": ["jo@daum.example"]}), key="k").r[0] + "에게 보낸 메일"
    assert kept == "me@daum.example에서"
    assert idn.endswith("@메일.한국")


def test_an_address_in_a_url_has_its_own_token() -> None:
    plain, coded, kept = redact(
        pd.DataFrame({"r": ["jo@d.example", "id=Jo%40d.example", "x=me%40d.example"]}), ["me@d.example"]
    ).r
    assert coded == f"id={plain}"
    assert kept == "x=me%40d.example"


def test_a_redacted_reply_means_what_it_meant() -> None:
    text = "554 5.7.1 [198.51.100.7] blocked: too many connections"
    shared = redact(pd.DataFrame({"r": [text]}), ips=True).r[0]
    assert sk.classify(shared).reason == sk.classify(text).reason == "ip_blocked"
