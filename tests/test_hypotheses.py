"""What may be named however well it scores, rule by rule: explanations made by hand, on frames of a few rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpkit import attempts
from smtpkit.hypotheses import Found, Scale, allowed, by_chance, cuts, rates, recoveries
from smtpkit.reading import Reading
from tests import frames

SERVERS, ROUNDS = 4, 6
WORDS = {
    "blocked": ("rejected", "rcpt", 554, "5.7.1", "554 5.7.1 [198.51.100.7] blocked"),
    "listed": ("rejected", "rcpt", 554, "5.7.1", "554 5.7.1 listed at zen.spamhaus.org"),
    "grey": ("deferred", "rcpt", 451, "4.7.1", "451 4.7.1 Greylisted, try again later"),
    "dmarc": ("rejected", "body", 550, "5.7.26", "550 5.7.26 fails DMARC of its domain"),
    "mute": ("failed", "connect", None, None, None, None, None, "timeout"),
    "lost": ("failed", "rcpt", None, None, None, None, None, "lost"),
    "tls": ("failed", "starttls", None, None, None, None, None, "tls_handshake"),
    "nobody": ("rejected", "rcpt", 550, "5.1.1", "550 5.1.1 No such user"),
    "good": frames.SAYS["good"],
}


def seen(says: Callable[[int, int], str], gap: float = 60, rounds: int = ROUNDS, **more: Any) -> Scale:
    """Rounds over four MX IPs, each answered in some of WORDS."""
    start, rows = pd.Timestamp("2026-11-24", tz="UTC"), []
    for n in range(SERVERS * rounds):
        told = WORDS[says(n % SERVERS, n // SERVERS)]
        row = frames.row("good", start + pd.Timedelta(seconds=gap * n), n % SERVERS)
        facts = dict.fromkeys(frames.FACTS) | dict(zip(frames.FACTS, told, strict=False))
        rows.append(row | facts | {k: v(n) if callable(v) else v for k, v in more.items()})
    read = Reading(attempts.frame(rows))
    return read.scale(np.arange(len(read.t)))


def blame(scale: Scale, kind: str, dimension: str = "mx_ip", cell: Any = None, **more: Any) -> Found:
    """All failures of these rows (default: of the second MX IP) as one explanation."""
    mask = scale.server == 1 if cell is None else np.asarray(cell, bool)
    voices = tuple(np.unique(scale.voice[mask & (scale.voice >= 0)]).tolist())
    values = tuple(np.unique(scale.codes[dimension][mask]).tolist()) if dimension in scale.codes else ()
    return Found(kind, dimension, mask, voices, 0.0, values, **more)


def second(word: str) -> Callable[[int, int], str]:
    return lambda i, _round: word if i == 1 else "good"


MAY = {
    "who does not answer refuses no recipient": ("mute", "recipient_bad", False),
    "nor who breaks off": ("lost", "recipient_bad", False),
    "whose TLS fails blocks nobody": ("tls", "mx_block", False),
    "it is dead": ("mute", "mx_dead", True),
    "who refuses blocks": ("blocked", "mx_block", True),
    "who refuses is not dead": ("blocked", "mx_dead", True),
    "who greylists does not block": ("grey", "mx_block", False),
    "who greylists is not dead": ("grey", "mx_dead", False),
}


@pytest.mark.parametrize("why", MAY)
def test_what_a_kind_sounds_like(why: str) -> None:
    word, kind, may = MAY[why]
    scale = seen(second(word))
    assert allowed(scale, blame(scale, kind)) is may


@pytest.mark.parametrize(("gap", "may"), [(60, False), (3600, True)])
def test_greylisting_beyond_the_longest_is_a_block(gap: float, may: bool) -> None:
    """The same contact, refused over and over: for two hours, for five hours after the first try and on."""
    scale = seen(second("grey"), gap)
    assert allowed(scale, blame(scale, "mx_block")) is may


@pytest.mark.parametrize(("word", "kind"), [("tls", "mx_block"), ("grey", "mx_dead"), ("grey", "mx_tls")])
def test_however_long_it_lasts(word: str, kind: str) -> None:
    """Hours of greylisting are a block, and nothing else; hours without TLS are none."""
    scale = seen(second(word), gap=3600)
    assert not allowed(scale, blame(scale, kind))


def test_a_contact_that_is_forgotten_within_a_day_is_greylisted_again() -> None:
    scale = seen(second("grey"), gap=90_000 / SERVERS)
    assert not allowed(scale, blame(scale, "mx_block"))


@pytest.mark.parametrize(("good", "may"), [(0, True), (2, True), (3, False)])
def test_an_outage_of_all_is_one_where_hardly_anything_got_through(good: int, may: bool) -> None:
    scale = seen(lambda i, r: "good" if (4 * r + i) in (2, 9, 17)[:good] else "mute")
    assert allowed(scale, blame(scale, "outage", "time", np.ones(scale.n))) is may


def test_an_outage_or_a_block_of_the_whole_site_needs_no_other_server() -> None:
    scale = seen(lambda i, r: "mute" if r > 2 else "good")
    assert allowed(scale, blame(scale, "outage", "time", np.arange(scale.n) >= 12))
    scale = seen(lambda i, r: "blocked" if i + r else "good")
    assert allowed(scale, blame(scale, "provider_block", "domain", np.ones(scale.n)))


def test_what_all_rows_share_must_be_said_in_words() -> None:
    grey = seen(lambda i, r: "grey")
    blocked = seen(lambda i, r: "blocked")
    assert allowed(grey, blame(grey, "greylisting", "none", np.ones(grey.n)))
    assert not allowed(blocked, blame(blocked, "greylisting", "none", np.ones(blocked.n)))
    assert not allowed(blocked, blame(blocked, "rate_limit", "rate", np.ones(blocked.n)))


def test_authentication_that_failed_began_once_and_goes_on() -> None:
    scale = seen(lambda i, r: "dmarc" if r > 2 else "good")
    late = np.arange(scale.n) >= 12
    assert allowed(scale, blame(scale, "auth_failure", "time", late, onset=12))
    assert not allowed(scale, blame(scale, "auth_failure", "time", late))
    assert not allowed(scale, blame(scale, "auth_failure", "time", late, onset=12, recovery=20))


def test_a_public_list_is_one_that_is_named() -> None:
    for word, may in (("listed", True), ("blocked", False)):
        scale = seen(lambda i, r, word=word: word if r > 1 else "good")
        assert allowed(scale, blame(scale, "dnsbl", "domain", np.arange(scale.n) >= 8)) is may


@pytest.mark.parametrize(("refused", "may"), [(1, False), (2, True)])
def test_each_server_of_a_list_that_recovers_refused_twice(refused: int, may: bool) -> None:
    scale = seen(lambda i, r: "blocked" if r < refused else "good")
    one = blame(scale, "delist_propagation", cell=scale.voice >= 0)
    assert allowed(scale, one) is may


def test_a_server_needs_another_to_compare_with() -> None:
    scale = seen(second("blocked"), mx_ip="192.0.2.11")
    assert not allowed(scale, blame(scale, "mx_block", cell=scale.voice >= 0))


def host(n: int) -> str:
    return f"be{n // SERVERS % 2}.daum.example" if n % SERVERS == 1 else f"be{n % SERVERS + 4}.daum.example"


def test_a_back_end_is_a_part_of_an_address_beside_a_part_that_answers() -> None:
    """The second MX IP has two back ends. Where the whole address fails, it is the address."""
    for fails, may in (("be1", True), ("be", False)):
        bad = [4 * r + 1 for r in range(ROUNDS) if host(4 * r + 1).startswith(fails)]
        scale = seen(lambda i, r, bad=bad: "blocked" if 4 * r + i in bad else "good", reply_host=host)
        assert allowed(scale, blame(scale, "mx_block", "backend", scale.voice >= 0)) is may


@pytest.mark.parametrize(("elsewhere", "may"), [("gone", True), ("other", False)])
def test_a_recipient_who_was_asked_at_one_server_only_accuses_no_server(elsewhere: str, may: bool) -> None:
    """Simpson's trap; one of our own addresses is held against all that our others got through with."""
    who = lambda n: "gone@daum.example" if n % SERVERS == 1 else f"{elsewhere}@daum.example"  # noqa: E731  one expression
    scale = seen(second("nobody"), recipient=who)
    assert allowed(scale, blame(scale, "mx_block")) is may
    ours = lambda n: frames.OURS if n % SERVERS == 1 else frames.OURS2  # noqa: E731  one expression
    scale = seen(second("nobody"), recipient=who, sender_ip=ours)
    assert allowed(scale, blame(scale, "sender_ip_block", "sender_ip"))


SIX = {1: "2001:db8::1", 2: "2001:db8::2"}


@pytest.mark.parametrize(("sixes", "ours", "may"), [((1,), True, False), ((1, 2), True, True), ((1,), False, True)])
def test_who_blocks_has_a_sibling_that_our_same_address_asked(sixes: Any, ours: bool, may: bool) -> None:
    """Over IPv6 we are another sender than over IPv4."""
    six = lambda n: n % SERVERS in sixes  # noqa: E731  one expression
    us = lambda n: "2001:db8:1::7" if six(n) and ours else frames.OURS  # noqa: E731  one expression
    scale = seen(
        second("blocked"),
        mx_ip=lambda n: SIX[n % SERVERS] if six(n) else f"192.0.2.{n % SERVERS + 11}",
        sender_ip=us,
        local_ip=us,
    )
    assert allowed(scale, blame(scale, "mx_block", cell=scale.voice >= 0)) is may


@pytest.mark.parametrize(("cells", "may"), [({(0, 0), (1, 1)}, False), ({(0, 0), (0, 1), (1, 0), (1, 1)}, True)])
def test_some_pairs_are_all_of_their_servers_with_all_of_our_addresses(cells: set[Any], may: bool) -> None:
    """Four MX IPs, each asked from three addresses of ours in turn."""
    us = [f"198.51.100.{n}" for n in (7, 8, 9)]
    scale = seen(
        lambda i, r: "blocked" if (i, r % 3) in cells else "good", sender_ip=lambda n: us[n // SERVERS % 3]
    )
    assert allowed(scale, blame(scale, "mx_block", "pair", scale.voice >= 0)) is may


# how much it must explain -----------------------------------------------------------------------------------------
def scored(scale: Scale, f: Found) -> bool:
    return bool(np.isfinite(scale.judge(f).score))


def test_a_rate_that_is_nobody_s_guilt_is_not_named() -> None:
    """One of 18 is below 6 %: nothing, however clean the rest."""
    scale = seen(lambda i, r: "blocked" if (i, r) == (1, 3) else "good")
    assert scored(scale, blame(scale, "mx_block", cell=scale.server == 1))
    assert not scored(scale, blame(scale, "outage", "time", np.arange(scale.n) >= 6))


@pytest.mark.parametrize(("others", "may"), [(5, True), (6, False)])
def test_a_cell_fails_three_times_as_often_as_the_rest(others: int, may: bool) -> None:
    """Five of the second's six; of the 18 others five, then six."""
    bad = [(1, r) for r in range(1, 6)] + [(2, r) for r in range(others)]
    scale = seen(lambda i, r: "blocked" if (i, r) in bad else "good")
    assert scored(scale, blame(scale, "mx_block")) is may


def test_and_as_often_as_the_others_in_the_same_time() -> None:
    """All four refuse from the fourth round on: over all the time the second alone would stand out."""
    scale = seen(lambda i, r: "blocked" if r > 3 else "good")
    mine = scale.server == 1
    late = blame(scale, "mx_block", cell=mine & (np.arange(scale.n) >= 16), detail={"cell": mine}, onset=17)
    assert not scored(scale, late)
    alone = seen(lambda i, r: "blocked" if r > 3 and i == 1 else "good")
    assert scored(alone, blame(alone, "mx_block", cell=late.mask, detail={"cell": mine}, onset=17))


@pytest.mark.parametrize(("first", "stray"), [(20, 1), (14, 38)])
def test_a_stray_failure_moves_neither_beginning_nor_end(first: int, stray: int) -> None:
    """A server blocks in six rounds of forty, and fails once in the same words long before, or long after."""
    rounds = range(first, first + 6)
    scale = seen(lambda i, r: "blocked" if i == 1 and (r in rounds or r == stray) else "good", rounds=40)
    best = max(cuts(scale, blame(scale, "mx_block")), key=lambda f: f.score)
    assert (np.flatnonzero(best.mask) // SERVERS).tolist() == list(rounds)


def test_where_all_refuse_still_none_has_recovered() -> None:
    assert not list(recoveries(seen(lambda i, r: "blocked")))
    assert list(recoveries(seen(lambda i, r: "blocked" if r < i + 2 else "good")))


def test_within_a_window_as_long_as_the_frame_a_count_is_only_a_clock() -> None:
    scale = seen(lambda i, r: "blocked" if r > 3 else "good", gap=10)  # four minutes in all
    assert {f.detail["window"] for f in rates(scale)} == {60}


def test_a_table_without_stages_or_hosts_tells_who_was_not_reached_and_from_where() -> None:
    us = ["198.51.100.7", "198.51.100.7", "198.51.100.8"]
    table = {"mx_ip": "192.0.2.11", "code": [250, None, 554], "error": [None, "timeout", None], "sender_ip": us}
    read = Reading(pd.DataFrame(table | {"started_at": pd.date_range("2026-11-24", periods=3, tz="UTC")}))
    assert read.mute.tolist() == [False, True, False]
    assert (read.road == read.road[0]).tolist() == [True, True, False]


def test_a_line_that_names_no_recipient_has_its_mail_s_only_one() -> None:
    table = {"mx_ip": "192.0.2.11", "code": [421, 250], "queue_id": "A1", "recipient": [None, "r@daum.example"]}
    read = Reading(pd.DataFrame(table | {"started_at": pd.date_range("2026-11-24", periods=2, tz="UTC")}))
    assert read.codes["recipient"].tolist() == [0, 0]


@given(st.data())
def test_the_exact_test_is_scipys(data: st.DataObject) -> None:
    from scipy.stats import hypergeom  # 0.4 s to import: where it is used

    n = data.draw(st.integers(1, 400))
    failed, drawn = (data.draw(st.integers(0, n)) for _ in range(2))
    k = data.draw(st.integers(max(0, failed + drawn - n), min(failed, drawn)))
    assert by_chance(k, n, failed, drawn) == pytest.approx(hypergeom.sf(k - 1, n, failed, drawn), rel=1e-9)
