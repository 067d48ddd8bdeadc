"""What readers of the table reader proved: times invented, columns lost or doubled, servers misread."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import smtpkit as sk
from smtpkit.errors import InvalidInput
from tests.frames import values

pytestmark = pytest.mark.filterwarnings("ignore:read_table guessed")


def times(texts: list[Any], tz: str = "Asia/Seoul") -> pd.DataFrame:
    return sk.read_table(pd.DataFrame({"started_at": texts, "code": [550] * len(texts)}), tz=tz)


ZONED = {
    "a mail's Date": ("Mon, 2 Mar 2026 09:14:05 +0900 (KST)", "2026-03-02 00:14:05"),
    "half a day and a zone": ("3/2/2026 9:14:05 AM +09:00", "2026-03-02 00:14:05"),
    "UTC+9": ("2026-03-02 09:14:05 UTC+9", "2026-03-02 00:14:05"),
    "hours alone": ("2026-03-02T09+09:00", "2026-03-02 00:00:00"),
    "a blank behind": ("2026-03-02 09:14:05+09:00 ", "2026-03-02 00:14:05"),
    "small letters": ("2026-03-02t09:14:05z", "2026-03-02 09:14:05"),
    "a zone of many meanings": ("2026-03-02 09:14:05 CST", None),
    "hours behind a blank": ("2026-03-02 09+09:00", None),
    "no year": ("Mar  2 09:14:05", None),
    "twelve digits": ("202603020914", "2026-03-02 00:14:00"),
    "comma": ("2026-03-02 09:14:05,5", "2026-03-02 00:14:05.5"),
    "ISO's short form": ("20260302T091405Z", "2026-03-02 09:14:05"),
    "ISO's short form, a zone": ("20260302T0914+0900", "2026-03-02 00:14:00"),
    "digits alone, of UTC": ("20260302091405Z", "2026-03-02 09:14:05"),
    "hours of UTC": ("2026-03-02T09Z", "2026-03-02 09:00:00"),
    "half a day of UTC": ("2026-03-02 9AM UTC", "2026-03-02 09:00:00"),
    "what date says": ("Mon Mar  2 09:14:05 UTC 2026", "2026-03-02 09:14:05"),
    "what date says in Seoul": ("Mon Mar  2 09:14:05 KST 2026", "2026-03-02 00:14:05"),
    "what date says where zones have many meanings": ("Mon Mar  2 09:14:05 EST 2026", None),
    "the year behind the zone": ("Mon Mar  2 09:14:05 +0900 2026", "2026-03-02 00:14:05"),
}


@pytest.mark.parametrize(("text", "instant"), ZONED.values(), ids=ZONED)
@pytest.mark.parametrize("others", [[], ["2026-03-02 10:00", 1772411645]], ids=["alone", "among others"])
def test_a_time_is_right_or_a_problem(text: str, instant: str | None, others: list[Any]) -> None:
    read = times([text, *others])
    assert values(read, "started_at")[0] == [instant and pd.Timestamp(instant, tz="UTC")]
    assert [one["lines"] for one in read.attrs["problems"]] == [[0]] * (instant is None)


ORDERS = {
    "a 13 settles all": (
        ["02.03.2026", "13.03.2026", "2026-03-04"],
        ["2026-03-02", "2026-03-13", "2026-03-04"],
        "",
    ),
    "of slashes too": (["02/03/2026", "13/03/2026"], ["2026-03-02", "2026-03-13"], ""),
    "months first": (["03/13/2026", "03/02/2026"], ["2026-03-13", "2026-03-02"], ""),
    "dots": (["02.03.2026"], ["2026-03-02"], "02.03.2026 were read as day.month.year"),
    "slashes": (["02/03/2026"], ["2026-02-03"], "02/03/2026 were read as month/day/year"),
    "hyphens": (["02-03-2026"], ["2026-02-03"], "02-03-2026 were read as month/day/year"),
    "two digits": (["02/03/26"], ["2026-02-03"], "02/03/26 were read as month/day/year"),
}


@pytest.mark.parametrize(("texts", "days", "note"), ORDERS.values(), ids=ORDERS)
def test_a_column_has_one_order_of_days_and_doubt_is_told(texts: list[str], days: list[str], note: str) -> None:
    read = times([f"{text} 09:14" for text in texts], "UTC")
    assert [str(at)[:10] for at in read.started_at] == days
    assert note in "".join(read.attrs["notes"])
    assert len(read.attrs["notes"]) == bool(note)


def test_seconds_and_milliseconds_in_one_column() -> None:
    read = times([1772411645, 1772411645000, "2026-03-02 09:34:06", 1772411645.25])
    assert [str(at)[11:] for at in read.started_at] == [
        "00:34:05+00:00", "00:34:05+00:00", "00:34:06+00:00", "00:34:05.250000+00:00"
    ]  # fmt: skip


def test_a_european_day_and_a_clock_are_one_time_and_a_duration_is_none() -> None:
    table = pd.DataFrame({"date": ["02.03.2026"], "time": ["09:14:05"], "code": [550]})
    assert str(sk.read_table(table, tz="UTC").started_at[0]) == "2026-03-02 09:14:05+00:00"
    table = pd.DataFrame({"date": ["2026-03-02"], "elapsed": ["00:14"], "code": [550]})
    read = sk.read_table(table, tz="UTC")
    assert str(read.started_at[0]) == "2026-03-02 00:00:00+00:00"
    assert [one["why"] for one in read.attrs["problems"]] == ["latency_s cannot be read"]


TWO_FOR_ONE = {
    "message and reply": ({"message": ["Hello"], "reply": ["550 no"]}, "reply", "550 no"),
    "ip and mx_ip": ({"ip": ["198.51.100.7"], "mx_ip": ["192.0.2.1"], "code": [550]}, "mx_ip", "192.0.2.1"),
    "mx_ip and ip": ({"mx_ip": ["192.0.2.1"], "ip": ["198.51.100.7"], "code": [550]}, "mx_ip", "192.0.2.1"),
}


@pytest.mark.parametrize(("columns", "name", "value"), TWO_FOR_ONE.values(), ids=TWO_FOR_ONE)
def test_a_column_of_the_schema_s_name_wins(columns: dict[str, list[Any]], name: str, value: str) -> None:
    assert values(sk.read_table(pd.DataFrame(columns)), name) == [[value]]


def test_a_mapping_wins_over_a_name_and_may_name_a_column_once() -> None:
    table = pd.DataFrame({"peer": ["192.0.2.1"], "mx_ip": ["198.51.100.7"], "code": [550]})
    assert values(sk.read_table(table, {"peer": "mx_ip"}), "mx_ip") == [["192.0.2.1"]]
    with pytest.raises(InvalidInput, match="twice"):
        sk.read_table(pd.DataFrame({"a": ["550 no"], "b": ["250 ok"]}), {"a": "reply", "b": "reply"})


WORDS = {
    "errors are replies": (
        {"mx_ip": ["192.0.2.1"] * 2, "error": ["Connection timed out", "550 5.7.1 no"]},
        [["failed", None, "timeout"], ["rejected", 550, None]],
    ),
    "beside a code": (
        {"ip": ["192.0.2.1"] * 2, "code": [550, None], "error": ["5.7.1 your IP is blocked", "timed out"]},
        [["rejected", 550, None], ["failed", None, "timeout"]],
    ),
    "SendGrid's export": (
        {"email": ["a@x.example"], "event": ["bounce"], "reason": ["550 5.1.1 no such user"]},
        [["rejected", 550, None]],
    ),
    "numbers as replies": ({"ip": ["192.0.2.1"] * 2, "result": [550, None]}, [["rejected", 550, None], [None] * 3]),
    "a count of mails": ({"reply": ["sent: 450 messages in 3 s"]}, [[None, None, None]]),
    "Exim's words": ({"reply": ["SMTP error after RCPT TO:<a@b.example>: 550 no"]}, [["rejected", 550, None]]),
    "Windows' lines": ({"reply": ["550-5.7.1 a\r\n550 5.7.1 b"]}, [["rejected", 550, None]]),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "told"), WORDS.values(), ids=WORDS)
def test_what_a_try_ended_with_is_found_under_any_name(columns: dict[str, Any], told: list[list[Any]]) -> None:
    assert values(sk.read_table(pd.DataFrame(columns)), "outcome", "code", "error") == told


def test_what_stands_under_the_schema_s_name_and_cannot_be_meant_is_counted() -> None:
    table = {
        "mx_ip": ["192.0.2.1"] * 2,
        "reply": ["550 no"] * 2,
        "error": ["lost", "odd"],
        "size_bytes": ["12.5", "9"],
    }
    read = sk.read_table(pd.DataFrame(table | {"latency_s": ["1.5s", ""], "port": [25, 1e12]}))
    assert {one["why"].split()[0]: one["lines"] for one in read.attrs["problems"]} == {
        "error": [1], "size_bytes": [0], "latency_s": [0], "port": [1]
    }  # fmt: skip
    assert values(read, "size_bytes", "port") == [[None, 25], [9, None]]


SERVERS = {
    "as Postfix writes it": ({"relay": ["mx1.d.example[192.0.2.1]:25"]}, ["mx1.d.example", "192.0.2.1"]),
    "an IP as server": ({"server": ["192.0.2.1"]}, [None, "192.0.2.1"]),
    "an IP and a port": ({"ip": ["192.0.2.1:25"]}, [None, "192.0.2.1"]),
    "IPv6 in a literal": ({"ip": ["[IPv6:2001:DB8::1]"]}, [None, "2001:db8::1"]),
    "IPv6 in capitals": ({"mx_ip": ["2001:DB8:0::1"]}, [None, "2001:db8::1"]),
    "a name": ({"mx_host": ["mx1.d.example"], "mx_ip": ["192.0.2.1"]}, ["mx1.d.example", "192.0.2.1"]),
}


@pytest.mark.parametrize(("columns", "server"), SERVERS.values(), ids=SERVERS)
def test_a_server_is_one_host_and_one_address(columns: dict[str, list[str]], server: list[str | None]) -> None:
    read = sk.read_table(pd.DataFrame(columns | {"code": [550]}))
    assert values(read, "mx_host", "mx_ip") == [server]
    assert read.attrs["problems"] == []


def test_pandas_own_dtypes_and_arrow_s_are_read_alike() -> None:
    table = pd.DataFrame({"code": [550, None], "mx_ip": ["192.0.2.1", None]})
    for backend in ("pyarrow", "numpy_nullable"):
        assert values(sk.read_table(table.convert_dtypes(dtype_backend=backend)), "code", "mx_ip") == [
            [550, "192.0.2.1"], [None, None]
        ]  # fmt: skip


FILES = {
    "one column": (
        b"reply\n550 5.7.1 see http://x\n550 5.7.1 see http://y/z, or call\n",
        ["550 5.7.1 see http://x"],
    ),
    "bars": (b"recipient|smtp response|sent at\na@d.example|550 no|2026-03-02 09:14\n", ["550 no"]),
    "quoted lines": (b'ip,reply\r\n192.0.2.1,"550-5.7.1 a\r\n550 5.7.1 b"\r\n', ["550-5.7.1 a\n550 5.7.1 b"]),
}


@pytest.mark.parametrize(("octets", "first"), FILES.values(), ids=FILES)
def test_files_of_any_separator(octets: bytes, first: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(octets)
    assert (
        sk.read_table(tmp_path / "a.csv", {"smtp response": "reply"} if b"|" in octets else None).reply[0]
        == first[0]
    )


REFUSED = {
    "no line of names": (
        b"2026-03-02 09:14:05,192.0.2.1,550 no\n2026-03-02 09:14:06,192.0.2.1,250 ok\n",
        "no names",
    ),
    "a name twice": (b"time,ip,ip,reply\n2026-03-02,192.0.2.1,192.0.2.2,550 no\n", "twice"),
}


@pytest.mark.parametrize(("octets", "said"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_would_lose_a_row_or_a_column_is_refused(octets: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(octets)
    with pytest.raises(InvalidInput, match=said):
        sk.read_table(tmp_path / "a.csv")


ODD = [
    *(
        "",
        None,
        "550 5.7.1 no",
        550.0,
        "2026-03-02 09:14",
        "오전 09:05",
        pd.Timestamp("2026-03-02", tz="UTC"),
        1e308,
    ),
    *("192.0.2.1", "mx1.d.example[192.0.2.1]:25", "x@y.example", True, 10**20, [1], pd.NaT, pd.NA, "timeout"),
    *(pd.Timestamp("2026-03-02", tz="UTC"), "성공", -1, "a\0b", pd.Timedelta("1s"), b"octets"),
]
NAMES = """time date started_at ip mx_ip relay mx_host code event reply error reason stage outcome recipient sender
size_bytes port latency_s tls_verified maybe_delivered try_number 응답 날짜""".split()
ROWS = st.lists(st.lists(st.sampled_from(ODD), min_size=5, max_size=5), max_size=4)


@given(rows=ROWS, names=st.permutations(NAMES))
def test_any_table_is_read_row_by_row_or_refused_in_words(rows: list[list[Any]], names: list[str]) -> None:
    table = pd.DataFrame(rows, columns=names[:5], dtype=object)
    try:
        assert len(sk.read_table(table, tz="UTC")) == len(rows)
    except InvalidInput as why:
        assert "no column like a reply" in str(why)  # noqa: PT017 - most tables are read


NAMED = {
    "two senders are no recipient": (
        {"sender": ["a@o.example"], "return_path": ["b@o.example"], "code": [550]},
        {"sender": "a@o.example", "return_path": "b@o.example", "recipient": None},
    ),
    "words as code": ({"code": ["sent"]}, {"outcome": "accepted", "code": None}),
    "an empty code": ({"code": [None], "status": [550]}, {"code": 550, "outcome": "rejected", "their_code": None}),
    "a reply as code beside a reply": (
        {"reply": ["no"], "code": ["550 5.7.1 blocked"], "status": [554]},
        {"code": 554, "reply": "554 no", "their_code": "550 5.7.1 blocked"},
    ),
    "a local address in capitals": ({"localIP": ["10.0.0.1"], "code": [550]}, {"local_ip": "10.0.0.1"}),
    "an address without a domain": (
        {"recipient": ["postmaster"], "code": [550]},
        {"recipient": "postmaster", "recipient_domain": None, "domain": None},
    ),
    "a domain as recipient": ({"to": ["d.example"], "code": [550]}, {"domain": "d.example"}),
    "a host without dots": ({"to": ["<root@localhost>"], "code": [550]}, {"domain": "localhost"}),
    "at which command": ({"reply": ["550 no (in reply to RCPT TO command)"]}, {"stage": "rcpt", "code": 550}),
    "True is no number": ({"latency_s": [True], "code": [550]}, {"latency_s": None}),
    "a category in capitals": ({"tls_asked": ["MAY"], "code": [550]}, {"tls_asked": "may"}),
}


@pytest.mark.parametrize(("columns", "told"), NAMED.values(), ids=NAMED)
def test_what_a_name_says_is_taken_if_the_values_fit(columns: dict[str, list[Any]], told: dict[str, Any]) -> None:
    assert values(sk.read_table(pd.DataFrame(columns)), *told) == [list(told.values())]


OURS = {"time": ["2026-03-02"], "mx_host": ["mx1.d.example"], "sender": ["a@ours.example"], "reply": ["550 no"]}


@pytest.mark.parametrize("name", ["sender_ip", "local_ip", "seen_ip"])
def test_our_own_columns_are_nobody_else_s(name: str) -> None:
    read = sk.read_table(pd.DataFrame(OURS | {name: ["198.51.100.7"]}), tz="UTC")
    assert read.attrs["guessed"] == {"time": "started_at"}
    assert values(read, name, "mx_ip", "recipient", "sender") == [["198.51.100.7", None, None, "a@ours.example"]]


BESIDE = {
    "a flag": {"ip": ["192.0.2.1"] * 2, "error": [0, 1], "response": ["250 ok", "550 no"]},
    "half a column of errors": {
        "ip": ["192.0.2.1"] * 2,
        "error": [None, "Refused"],
        "message": ["250 ok", "550 no"],
    },
    "reasons": {"ip": ["192.0.2.1"] * 2, "reason": ["none", "odd"], "response": ["250 ok", "550 no"]},
    "events with numbers": {"event": [101, 102], "ip": ["192.0.2.1"] * 2, "status": [250, 550]},
}


@pytest.mark.parametrize("columns", BESIDE.values(), ids=BESIDE)
def test_a_better_name_wins(columns: dict[str, list[Any]]) -> None:
    assert values(sk.read_table(pd.DataFrame(columns)), "code") == [[250], [550]]


HEADS = {
    "blank columns": b"time,ip,reply,,\n2026-03-02,192.0.2.1,550 no,,\n",
    "two that nobody needs": b"note,note,ip,reply\nx,y,192.0.2.1,550 no\n",
    "a comma in a name": b'"Date, time, zone";ip;reply\n2026-03-02;192.0.2.1;550 no\n',
    "a name like a reply": b"250 count,192.0.2.9,ip,reply\n1,2,192.0.2.1,550 no\n",
}


@pytest.mark.parametrize("octets", HEADS.values(), ids=HEADS)
def test_heads_as_excel_writes_them(octets: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(octets)
    assert values(sk.read_table(tmp_path / "a.csv", tz="UTC"), "mx_ip", "code") == [["192.0.2.1", 550]]


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_times_of_arrow_have_the_zone_that_is_given(unit: str) -> None:
    at = pd.Series(pd.to_datetime(["2026-03-02 09:14:05", None])).astype(f"timestamp[{unit}][pyarrow]")
    read = sk.read_table(pd.DataFrame({"started_at": at, "code": [550, 550]}), tz="Asia/Seoul")
    assert [str(one) for one in read.started_at] == ["2026-03-02 00:14:05+00:00", "NaT"]


N = 40
MX = [f"192.0.2.{1 + n % 4}" for n in range(N)]
SAID = ["554 5.7.1 Your IP is blocked" if ip == "192.0.2.3" else "250 ok" for ip in MX]
AT = [str(at) for at in pd.date_range("2026-03-02", periods=N, freq="5min", tz="UTC")]
PAIRS = ["src dst", "source dest", "client_ip peer", "local remote", "sourceIp destIp", "egress mx", "송신IP 서버"]


@pytest.mark.parametrize("names", PAIRS)
def test_an_address_of_ours_is_no_mx(names: str) -> None:
    ours, theirs = names.split()
    us = ["198.51.100.7" if n % 3 else "198.51.100.8" for n in range(N)]
    read = sk.read_table(pd.DataFrame({"time": AT, ours: us, theirs: MX, "reply": SAID}))
    assert list(read.mx_ip) == MX
    assert [cause.values for cause in sk.diagnose(read).causes] == [("192.0.2.3",)]


@pytest.mark.parametrize(("a", "b"), [("198.51.100.7", "192.0.2.1"), ("me@ours.example", "jo@d.example")])
def test_of_two_columns_that_look_alike_none_is_taken(a: str, b: str) -> None:
    with pytest.warns(UserWarning, match="left and right look alike; columns="):
        read = sk.read_table(pd.DataFrame({"left": [a], "right": [b], "reply": ["550 no"]}))
    assert values(read, "mx_ip", "recipient", "domain") == [[None, None, None]]


def test_names_in_capitals_are_names() -> None:
    table = pd.DataFrame({"Domain": ["d.example"], "IP": ["198.51.100.7"], "MX_IP": ["192.0.2.1"], "Code": [550]})
    read = sk.read_table(table.assign(Reply="5.7.1 no", Recipient="a@d.example", **{"Sender IP ": "198.51.100.7"}))
    assert values(read, "domain", "mx_ip", "code", "enhanced", "recipient", "sender_ip") == [
        ["d.example", "192.0.2.1", 550, "5.7.1", "a@d.example", "198.51.100.7"]
    ]


KOREAN = "결과코드,결과메시지,수신자메일,수신서버IP\n550,5.7.1 차단,a@d.example,192.0.2.1\n"
LINES = {
    "Excel's own line": ("sep=;\ntime;ip;reply\n2026-03-02;192.0.2.1;550 5.7.1 no\n", [550, "5.7.1", "192.0.2.1"]),
    "a reply as code": ("ip,code\n192.0.2.1,550 5.7.1 no\n192.0.2.1,250 ok\n", [550, "5.7.1", "192.0.2.1"]),
    "Korean heads": (KOREAN, [550, "5.7.1", "192.0.2.1"]),
}


@pytest.mark.parametrize(("text", "first"), LINES.values(), ids=LINES)
def test_files_as_people_have_them(text: str, first: list[Any], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text, "utf-8")
    assert values(sk.read_table(tmp_path / "a.csv", tz="UTC"), "code", "enhanced", "mx_ip")[0] == first


def test_words_behind_a_comma_are_not_lost_in_silence(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ip,reply\n192.0.2.1,550 sorry, your IP is blocked\n", "utf-8")
    with pytest.raises(InvalidInput, match="quote texts that have commas"):
        sk.read_table(tmp_path / "a.csv")


def test_excel_loses_neither_column_nor_sheet_in_silence(tmp_path: Path) -> None:
    path, row = tmp_path / "a.xlsx", pd.DataFrame({"ip": ["192.0.2.1"], "reply": ["550 no"]})
    pd.DataFrame([["ip", "ip", "reply"], ["a", "b", "550"]]).to_excel(path, header=False, index=False)
    with pytest.raises(InvalidInput, match="twice"):
        sk.read_table(path)
    with pd.ExcelWriter(path) as book:
        row.to_excel(book, sheet_name="3월", index=False)
        row.to_excel(book, sheet_name="4월", index=False)
    with pytest.warns(UserWarning, match="read '3월'; not read: '4월'"):
        assert len(sk.read_table(path)) == 1


def test_times_in_the_index_are_times() -> None:
    at = pd.DatetimeIndex(["2026-03-02 09:14"], name="t")
    table = pd.DataFrame({"ip": ["192.0.2.1"], "code": [550]}, index=at)
    for one in (table, table.rename_axis(None), table.rename_axis("time")):
        assert str(sk.read_table(one, tz="Asia/Seoul").started_at[0]) == "2026-03-02 00:14:00+00:00"


@pytest.mark.parametrize("tz", [9, 9.0, 32400])
def test_a_number_is_no_zone(tz: Any) -> None:
    with pytest.raises(InvalidInput, match="is no time zone"):
        times(["2026-03-02 09:14"], tz)
    named: Any = "reply"
    with pytest.raises(InvalidInput, match="is str, not Mapping"):
        sk.read_table(pd.DataFrame({"a": ["550 no"]}), named)


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_what_a_casebook_exports_is_read_back(form: str, tmp_path: Path) -> None:
    with sk.Lab("stale_blacklist") as lab:
        frame = sk.probe(lab.domain, lab.recipient, lab.sender, network=lab.network)
        sk.Casebook(lab.network.casebook).export(tmp_path, [form])
    read = sk.read_table(tmp_path / f"attempts.{form}")
    assert read.attrs["problems"] == []
    same = ["source", "started_at", "mx_ip", "outcome", "code", "tls_verified", "maybe_delivered", "attempt_id"]
    pd.testing.assert_frame_equal(read[same], frame.sort_values("attempt_id", ignore_index=True)[same])
    assert sk.diagnose(read).verdict == sk.diagnose(frame).verdict


BELIED = {
    "sent, but refused": ("sent", "550 5.7.1 blocked", "rejected", 1),
    "bounced later, but taken": ("bounced", "250 ok", "accepted", 1),
    "a soft bounce of 550": ("soft bounce", "550 no", "deferred", 0),
    "sent, and no code": ("sent", "ok", "accepted", 0),
}


@pytest.mark.parametrize(("status", "reply", "outcome", "told"), BELIED.values(), ids=BELIED)
def test_a_reply_counts_more_than_what_a_table_calls_it(status: str, reply: str, outcome: str, told: int) -> None:
    read = sk.read_table(pd.DataFrame({"status": [status], "reply": [reply]}))
    assert values(read, "outcome") == [[outcome]]
    assert [one["why"] for one in read.attrs["problems"]] == ["outcome is not what the reply says"] * told


PYTHON = {
    "octets": (b"550 5.1.1 no", "550 5.1.1 no"),
    "octets as text": ("b'550 5.1.1 no'", "550 5.1.1 no"),
    "octets of Korean": ("550 5.1.1 없음".encode("euc-kr"), "550 5.1.1 없음"),
    "an exception": ("(550, b'5.1.1 no\\n5.1.1 user')", "550 5.1.1 no\n5.1.1 user"),
    "a dictionary": ("{'r@d.example': (550, b\"5.1.1 can't\")}", "550 5.1.1 can't"),
    "what is no Python": (r"(550, b'5.1.1 \xzz')", None),
}


@pytest.mark.parametrize(("said", "reply"), PYTHON.values(), ids=PYTHON)
def test_what_smtplib_answers_is_a_reply(said: object, reply: str | None) -> None:
    read = sk.read_table(pd.DataFrame({"message": [said]}))
    rows = [[550, "5.1.1", reply]] if reply else [[None, None, said]]
    assert values(read, "code", "enhanced", "reply") == rows


MAKERS = {
    "SES": ("destination,diagnosticCode,remoteMtaIp", "r@d.example,smtp; 550 5.1.1 no,192.0.2.9"),
    "PowerMTA": ("rcpt,dsnDiag,dlvSourceIp,dlvDestinationIp", "r@d.example,smtp;550 no,198.51.100.1,192.0.2.9"),
}


@pytest.mark.parametrize(("head", "row"), MAKERS.values(), ids=MAKERS)
def test_columns_of_well_known_makers_are_known(head: str, row: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"{head}\n{row}\n")
    assert values(sk.read_table(tmp_path / "t.csv"), "recipient", "mx_ip", "code") == [
        ["r@d.example", "192.0.2.9", 550]
    ]


@pytest.mark.parametrize("made", ["created_at", "createdAt", "created", "등록일시", "요청일시"])
@pytest.mark.parametrize("sent", ["sent_at", "time", "발송일시"])
def test_when_a_mail_was_sent_says_more_than_when_it_was_made(made: str, sent: str) -> None:
    table = pd.DataFrame({made: ["2026-03-02 07:00"], "code": [550], sent: ["2026-03-02 09:00"]})
    assert str(sk.read_table(table).started_at[0]) == "2026-03-02 09:00:00+00:00"
    alone = sk.read_table(table.drop(columns=sent))
    assert str(alone.started_at[0]) == "2026-03-02 07:00:00+00:00"


@pytest.mark.parametrize("state", ["status", "발송상태", "처리상태", "전송상태"])
def test_numbers_of_states_are_no_codes(state: str) -> None:
    table = pd.DataFrame({state: [1, 2], "결과코드": [250, 550], "ip": ["192.0.2.9"] * 2})
    assert values(sk.read_table(table), "code", "outcome") == [[250, "accepted"], [550, "rejected"]]


WORDED = {
    "errors, ours and others'": (
        {"error": ["timeout", "Connection refused", "ECONNRESET", "?"]},
        ["error", "outcome"],
        [["timeout", None], ["refused", None], ["reset", None], [None, None]],
        [3],
    ),
    "stages": (
        {"stage": ["RCPT TO", "rcpt", "Data", "end of DATA", "?"], "code": [550] * 5},
        ["stage"],
        [["rcpt"], ["rcpt"], ["data"], ["body"], [None]],
        [4],
    ),
    "words beside an enhanced code": (
        {"enhanced": ["5.7.1", "2.0.0", None], "reply": ["blocked", "Ok: queued", "later"]},
        ["outcome", "code"],
        [["rejected", None], ["accepted", None], [None, None]],
        [2],
    ),
    "IPv4 in IPv6": (
        {"ip": ["::ffff:192.0.2.1"], "relay": ["mx[::ffff:192.0.2.1]"], "code": [550]},
        ["mx_ip", "mx_host"],
        [["192.0.2.1", "mx"]],
        [],
    ),
    "Korean states": (
        {"발송상태": ["실패", "성공"], "에러메시지": ["550 차단", None], "처리일시": ["2026-03-02 09:14"] * 2},
        ["outcome", "started_at"],
        [[what, pd.Timestamp("2026-03-02 09:14", tz="UTC")] for what in ("rejected", "accepted")],
        [],
    ),
    "seconds": (
        {"ts": [1772411645], "code": [550]},
        ["started_at"],
        [[pd.Timestamp(1772411645, unit="s", tz="UTC")]],
        [],
    ),
}


@pytest.mark.parametrize(("table", "names", "rows", "odd"), WORDED.values(), ids=WORDED)
def test_words_of_others_are_read_or_told(
    table: dict[str, list[Any]], names: list[str], rows: list[list[Any]], odd: list[int]
) -> None:
    read = sk.read_table(pd.DataFrame(table))
    assert values(read, *names) == rows
    assert [at for one in read.attrs["problems"] for at in one["lines"]] == odd


@pytest.mark.parametrize(("charset", "said"), [("cp949", "550 똠방각하 없음"), ("shift-jis", None)])
def test_what_is_no_hangul_is_not_read_as_such(charset: str, said: str | None, tmp_path: Path) -> None:
    octets = (said or "550 受信拒否").encode(charset)
    (tmp_path / "t.csv").write_bytes(b"ip,reply\n192.0.2.1," + octets + b"\n")
    reply = sk.read_table(tmp_path / "t.csv").reply[0]
    assert reply == (said or octets.decode("ascii", "backslashreplace"))
