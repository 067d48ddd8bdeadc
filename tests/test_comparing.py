"""compare: what the mail did and the probe did not."""

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit import attempts
from smtpkit.errors import InvalidInput
from tests import frames


def log(**more: object) -> pd.DataFrame:
    """A log of a sender with two addresses, one of which one server refuses."""
    made = [
        frames.rounds(4, 8, lambda i, r, h, us=us: "bad" if i == 2 and us == frames.OURS2 else "sent", sender_ip=us)
        for us in (frames.OURS, frames.OURS2)
    ]
    return frames.join(*made).assign(source="postfix", helo="localhost", asked="body", tls="plain", **more)


def probe() -> pd.DataFrame:
    return frames.rounds(4, 5, lambda i, r, h: "good", tls="TLSv1.3")


def test_the_address_that_only_the_mail_used_comes_first() -> None:
    found = sk.compare(log(), probe())
    assert list(found.loc[found.differs.fillna(False)].index) == ["sender_ip", "helo", "asked", "tls"]
    row = found.loc["sender_ip"]
    assert (row.own, row.own_failed, row.shared, row.shared_failed) == (32, 8, 32, 0)
    assert row.a == "198.51.100.7 (32), 198.51.100.8 (32)"
    assert row.b == "198.51.100.7 (20)"


def test_how_deep_each_asked_is_a_difference() -> None:
    found = sk.compare(log(), probe())
    assert (found.loc["asked", "a"], found.loc["asked", "b"]) == ("body (64)", "rcpt (20)")


def test_what_one_frame_does_not_know_is_missing() -> None:
    bare = log()[["started_at", "mx_ip", "code", "outcome"]]
    found = sk.compare(bare, probe())
    assert found.loc["helo", "differs"] is pd.NA
    assert found.loc["helo", "a"] == "not known"
    assert not found.loc["family", "differs"]


def test_like_is_compared_with_like() -> None:
    mail, probed = log(), probe()
    other = mail.assign(domain="other.example", sender_ip="198.51.100.99", outcome="rejected")
    both = frames.join(mail, other.assign(attempt_id="o" + mail.attempt_id, session="o" + mail.session))
    pd.testing.assert_frame_equal(sk.compare(both, probed), sk.compare(mail, probed))
    pd.testing.assert_frame_equal(sk.compare(probed, both), sk.compare(probed, mail))
    assert sk.compare(other, probed).loc["sender_ip", "own_failed"] > 0, "no domain in common: all of both"


def test_one_value_written_in_two_ways_is_no_difference() -> None:
    ways = [
        pd.DataFrame({"helo": [h], "port": [p], "code": [250]})
        for h, p in (("Mail.A.example", 25.0), ("mail.a.example", 25))
    ]
    assert not sk.compare(*ways).differs.any()


def test_family_and_dkim() -> None:
    six = probe().assign(mx_ip="2001:db8::1", dkim="pass")
    found = sk.compare(log(dkim="none"), six)
    assert (found.loc["family", "a"], found.loc["family", "b"]) == ("IPv4 (64)", "IPv6 (20)")
    assert found.loc["dkim", "differs"]


def test_the_same_frame_differs_in_nothing_and_withheld_rows_do_not_count() -> None:
    held = frames.rounds(2, 2, lambda i, r, h: "held", helo="other.example")
    assert not sk.compare(frames.join(probe(), held), probe()).differs.fillna(False).any()
    assert len(sk.compare(attempts.frame(), attempts.frame())) == 0


def test_hostile_values_are_escaped_and_what_is_no_frame_is_refused() -> None:
    assert "\x1b" not in sk.compare(log().assign(helo="\x1b[31mx"), probe()).loc["helo", "a"]
    with pytest.raises(InvalidInput, match=", not DataFrame"):
        sk.compare("log", probe())  # type: ignore[arg-type]  # a caller's mistake
