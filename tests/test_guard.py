"""The gate: what may leave, whoever wrote the step, octet for octet."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pytest

from smtpkit.errors import InvalidInput
from smtpkit.guard import Guard, gate
from smtpkit.limits import Pace
from smtpkit.reply import Reply
from smtpkit.steps import Ask, Connect, Effect, Got, Lost, MarkDot, Step, Verdict

OK, GO = [Reply(250, b"250 ok\r\n")], [Reply(354, b"354 go\r\n")]
TO = "r@daum.example"
TO_X = b"body\r\nRCPT TO:<x@y.example>\r\n"


def typed(lines: Sequence[bytes], answers: list[Got]) -> Step:
    """A step that says these lines one after the other and keeps what it was answered."""
    answers.append((yield Connect()))
    for line in lines:
        got = yield MarkDot() if line == b"MARK" else Ask(line, () if line.startswith(b"body") else ("other",))
        answers.append(got)
    return (Verdict("body", "passed"),)


def played(
    lines: Sequence[bytes],
    guard: Guard,
    live: bool,
    named: Sequence[str] | None = (TO,),
    says: Mapping[bytes, Got] = MappingProxyType({}),
) -> tuple[list[bytes], list[Got]]:
    """What really left, and what the step was answered; `says`: what the server answers but 250, or 354 to DATA."""
    answers: list[Got] = []
    left: list[bytes] = []
    gated = gate(typed(lines, answers), guard, live, named)
    got: Got = None
    try:
        effect: Effect = next(gated)
        while True:
            if isinstance(effect, Ask):
                left.append(effect.data)
                usual = GO if effect.data.strip().upper() == b"DATA" else OK
                got = says.get(effect.data, usual)
            else:
                got = [] if isinstance(effect, MarkDot) else None
            effect = gated.send(got)
    except StopIteration:
        return left, answers


def rcpt(to: str) -> bytes:
    return f"RCPT TO:<{to}>\r\n".encode()


ALLOW = Guard(allow_to=[TO])
BARRED = {
    "DATA without live": ([rcpt(TO), b"DATA\r\n"], ALLOW, False, b"DATA\r\n"),
    "DATA to nobody allowed": ([rcpt(TO), b"DATA\r\n"], Guard(), True, b"DATA\r\n"),
    "DATA in small letters": ([rcpt(TO), b"data\r\n"], Guard(), True, b"data\r\n"),
    "DATA behind blanks": ([rcpt(TO), b"  DATA\r\n"], Guard(), True, b"  DATA\r\n"),
    "BDAT": ([rcpt(TO), b"BDAT 5 LAST\r\nhello"], Guard(), True, b"BDAT 5 LAST\r\nhello"),
    "DATA hidden in a batch": ([rcpt(TO) + b"DATA\r\n"], Guard(), True, rcpt(TO) + b"DATA\r\n"),
    "a recipient that is not named": ([rcpt("x@daum.example")], Guard(), True, rcpt("x@daum.example")),
    "one that no guard can read": ([b"RCPT TO:<\xff@x>\r\n"], ALLOW, True, b"RCPT TO:<\xff@x>\r\n"),
    "with blanks after the colon": (
        [b"RCPT TO: <x@y.example>\r\n"],
        ALLOW,
        True,
        b"RCPT TO: <x@y.example>\r\n",
    ),
    "the mark before the dot, without live": ([rcpt(TO), b"MARK"], ALLOW, False, b"MARK"),
    "the mark before anybody is named": ([b"MARK"], ALLOW, True, b"MARK"),
    "ETRN": ([b"ETRN daum.example\r\n"], ALLOW, False, b"ETRN daum.example\r\n"),
}


@pytest.mark.parametrize("name", BARRED)
def test_it_never_leaves(name: str) -> None:
    lines, guard, live, barred = BARRED[name]
    left, answers = played(lines, guard, live)
    assert barred not in left
    assert isinstance(answers[-1], Lost)
    assert answers[-1].error == "guard"
    assert answers[-1].text, "it says why"


def test_what_is_allowed_leaves() -> None:
    lines = [b"EHLO me\r\n", b"MAIL FROM:<me@ours.example>\r\n", rcpt(TO), b"DATA\r\n", b"body", b"MARK"]
    left, answers = played(lines, ALLOW, True)
    assert left == lines[:-1]
    assert not [one for one in answers if isinstance(one, Lost)]


def test_one_barred_recipient_bars_the_message() -> None:
    """A probe may name it; but what it is named with cannot be handed over."""
    left, _ = played([rcpt(TO), rcpt("x@daum.example"), b"DATA\r\n"], ALLOW, True, [TO, "x@daum.example"])
    assert left == [rcpt(TO), rcpt("x@daum.example")]


def test_the_text_of_a_message_is_not_read_as_commands() -> None:
    lines = [rcpt(TO), b"DATA\r\n", TO_X, TO_X]
    assert played(lines, ALLOW, True)[0] == lines


NO = [Reply(554, b"554 no\r\n")]
NO_MESSAGE: dict[str, tuple[list[bytes], dict[bytes, Got]]] = {
    "DATA was refused": ([rcpt(TO), b"DATA\r\n", TO_X], {b"DATA\r\n": NO}),
    "DATA was lost": ([rcpt(TO), b"DATA\r\n", TO_X], {b"DATA\r\n": Lost("reset")}),
    "DATA was not waited for": ([rcpt(TO), b"DATA\r\n", TO_X], {b"DATA\r\n": []}),
    "the server says 354 to another command": ([rcpt(TO), b"NOOP\r\n", TO_X], {b"NOOP\r\n": GO}),
    "the server says 354 and means a recipient": ([rcpt(TO), TO_X], {rcpt(TO): GO}),
    "the message is over": ([rcpt(TO), b"DATA\r\n", b"body", b"MARK", b".\r\n", TO_X], {}),
}


@pytest.mark.parametrize("name", NO_MESSAGE)
def test_what_no_server_takes_as_a_message_is_read_as_commands(name: str) -> None:
    lines, says = NO_MESSAGE[name]
    left, answers = played(lines, ALLOW, True, says=says)
    assert left == [line for line in lines[:-1] if line != b"MARK"]
    assert isinstance(answers[-1], Lost)
    assert answers[-1].text == "x@y.example is not named and not in allow_to"


def test_who_is_on_the_list_may_be_named_too() -> None:
    assert played([rcpt(TO)], ALLOW, False, ["x@daum.example"])[0] == [rcpt(TO)]
    assert played([rcpt("x@DAUM.example")], ALLOW, False, ["x@Daum.example"])[0] == [rcpt("x@DAUM.example")]
    for odd in ('"x>y"@daum.example', '"a\\"> b"@daum.example'):
        assert played([rcpt(odd)], ALLOW, False, [odd])[0] == [rcpt(odd)], "a quoted > ends no path"
    assert played([rcpt('"x"@y.example>"@daum.example')], ALLOW, True)[0] == []


def test_none_at_all_is_a_count() -> None:
    assert Guard(max_messages=0, max_connections=0).max_messages == 0


def test_whoever_types_a_recipient_names_it_and_may_not_reach_it() -> None:
    left, answers = played([rcpt("x@y.example"), b"DATA\r\n"], ALLOW, True, None)
    assert left == [rcpt("x@y.example")]
    assert isinstance(answers[-1], Lost)
    assert "x@y.example not in allow_to" in answers[-1].text


@pytest.mark.parametrize(("value", "may"), [("1", False), ("yes", False), ("0", True), ("", True)])
def test_the_environment_overrides_everything(value: str, may: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTPKIT_NO_SEND", value)
    assert Guard(allow_to=["*"]).may_deliver(TO) is may


@pytest.mark.parametrize(
    ("entry", "to", "may"),
    [
        ("r@daum.example", "r@DAUM.example", True),
        ("r@daum.example", "R@daum.example", False),
        ("@daum.example", "x@daum.example", True),
        ("@daum.example", "x@sub.daum.example", False),
        ("@daum.example", "x@notdaum.example", False),
        ("@daum.example", "x%y.example@daum.example", False),
        ("@도메인.example", "x@xn--hq1bm8jm9l.example", True),
    ],
)
def test_entries(entry: str, to: str, may: bool) -> None:
    assert Guard(allow_to=[entry]).may_deliver(to) is may
    assert Guard(allow_to=entry).may_deliver(to) is may, "a single str is one entry, not its letters"


@pytest.mark.parametrize(
    "wrong",
    [
        {"allow_to": ["daum.example"]},
        {"allow_to": ["@"]},
        {"allow_to": [5]},
        {"max_messages": -1},
        {"max_connections": 1.5},
    ],
)
def test_a_wrong_guard_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        Guard(**wrong)  # type: ignore[arg-type]  # the caller's mistake is what is tested


@pytest.mark.parametrize("wrong", [{"per_hour": "x"}, {"per_day": 0}, {"ip_gap": "5"}, {"patience": -1}])
def test_a_wrong_pace_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        Pace(**wrong)  # type: ignore[arg-type]  # the caller's mistake is what is tested
