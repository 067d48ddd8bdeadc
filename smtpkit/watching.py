"""watching: `watch`: ask again, round by round, until every MX IP accepts and no block list names us.

Not here: what a probe asks (probing), what a block list's answer means (checks.dnsbl), charts (plot.timeline).
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pandas as pd

from smtpkit.campaign import Rules, Run, run
from smtpkit.casebook import Casebook
from smtpkit.catalogue import rows as catalogue
from smtpkit.checks import dnsbl
from smtpkit.errors import flag, listed, one_of, quantity
from smtpkit.jobs import Job, Plan, hold
from smtpkit.limits import DAY, Pace
from smtpkit.mx import MxRoute
from smtpkit.network import Network, chosen
from smtpkit.probing import RULES, Question, find_route, question

LEAST = 60.0
"""Seconds between rounds, at least, where real servers are asked."""


def watch(
    domain: str | MxRoute | None = None,
    recipient: str | None = None,
    sender: str | None = None,
    *,
    every: float = 1800,
    clear: int = 2,
    rounds: int | None = None,
    zones: list[str] | None = None,
    network: Network | None = None,
    background: bool = False,
    **keywords: Any,
) -> pd.DataFrame | Run:
    """Ask every MX IP again and again until all accept and no block list has us; nothing is delivered.

    Each round resolves the domain anew (a route of `lookup_mx` stays as it is). What is not known holds the end
    back: a host whose look-up fails for a while, a list that had us and is silent. A case that was broken off
    goes on where its casebook ends; one that ended well returns at once. Lists: `checks.dnsbl.history(casebook)`.
    every: seconds between rounds, more where `pace.per_day` would not last. clear: rounds in a row in which all
    accept. rounds: how many at most; `guard.max_connections` ends it too. zones: block lists, by default all IP
    lists of data/dnsbl_zones.csv, [] for none. keywords: those of `probe`; `case` is "watch DOMAIN" unless given.

    Returns all attempts of the case, for `plot.timeline(frame, diagnose(frame))`; with `background` the Run.
    Raises InvalidInput, StoreError, as `probe`.

    >>> from smtpkit import Lab
    >>> with Lab("delisting", speed=36000) as lab:
    ...     frame = watch(lab.domain, lab.recipient, lab.sender, network=lab.network, every=0.1)
    >>> set(frame.groupby("mx_ip").outcome.last())
    {'passed'}
    """
    net = chosen(network)
    rules = {name: keywords.pop(name, None) for name in RULES}
    asked, route = question(domain, recipient, sender, network=net, **keywords)
    rules["case"] = f"watch {route.domain}" if rules["case"] is None else rules["case"]
    found = Rules.of(net, **rules)
    paces = [found.pace, *(found.pace_at(net, ip, asked.aim.port) for _, ip in route)]
    pace = next((one for one in paces if one != Pace.none()), None)
    clear = quantity("clear", clear, 1, whole=True)
    most = sys.maxsize if rounds is None else quantity("rounds", rounds, 1, whole=True)
    every, background = quantity("every (seconds)", every, LEAST if pace else 1e-6), flag("background", background)
    if pace:  # each ask is a round apart and may wait: neither refusals nor a long rest end the watch
        rules["pace"] = replace(pace, asks_after_refusal=1_000_000, patience=DAY)
    names = [row["zone"] for row in catalogue("dnsbl_zones.csv") if row["kind"] == "ip"]
    given, why = names if zones is None else listed("zones", zones), "is no list of IP addresses"
    wanted = [one_of("zones", zone, names, why) for zone in given]
    book, ip = Casebook(found.casebook), net.sender_ip
    lists = partial(_said, book, ip, wanted) if ip and wanted else None
    find = partial(find_route, domain, keywords.get("server"), keywords.get("server_name"), net)
    ask = partial(lists, net) if lists else pd.DataFrame
    plan = _Watch(asked, find, ask, partial(_pause, every, pace.per_day if pace else None), clear, most)
    known = book.attempts(found.case, classify=False)
    label = f"watch {route.domain}"
    made = run(plan.plan(route, known, lists and lists()), net, label=label, background=background, **rules)
    return made if isinstance(made, Run) else book.attempts(found.case).__finalize__(made)  # stopped, or not


def _pause(every: float, per_day: int | None, sessions: int) -> float:
    """Seconds between rounds of so many sessions."""
    return max(every, DAY * sessions / per_day if per_day else 0.0)


def _said(book: Casebook, ip: str, zones: list[str], net: Network | None = None) -> pd.DataFrame:
    """What lists said of us (with a network: asked now), by spell. holds: it keeps us from the end, as it has us;
    what it said before stands while it says nothing. now: its last spell does."""
    if net:
        dnsbl.lookup(ip, net, zones, casebook=book)
    said = dnsbl.history(book).query("subject == @ip and zone in @zones")
    holds = said.state.where(said.state.isin(["listed", "not listed"])).groupby(said.zone).ffill() == "listed"
    return said.assign(holds=holds, now=holds & ~said.zone.duplicated(keep="last"))


def _well(ip: str | None, outcome: str, error: str | None) -> bool:
    """Whether a row is as it should be: accepted, or a host that for certain has no address."""
    return outcome == "passed" or (pd.isna(ip) and error not in ("dns_servfail", "dns_timeout"))


@dataclass(frozen=True, slots=True)
class _Watch:
    asked: Question
    find: Callable[[], MxRoute]
    lists: Callable[[], pd.DataFrame]
    pause: Callable[[int], float]
    clear: int
    most: int

    def plan(self, route: MxRoute, known: pd.DataFrame, said: pd.DataFrame | None) -> Plan:
        """Rounds until all is clear. The lists are asked before each, in a thread: nobody here waits for DNS."""
        number, streak, wait = self._resume(route, known, said)
        last, pool = number + self.most, ThreadPoolExecutor(1)
        try:
            while streak < self.clear and number < last:
                number, told = number + 1, pool.submit(self.lists)
                first = self._jobs(route, number)[0]
                got = yield from hold([replace(first, after=wait)])
                route = self.find()
                got += yield from hold([job for job in self._jobs(route, number) if job.ip != first.ip])
                ended = [(result.job.ip, result.verdicts[0]) for result in got]
                clean = bool(list(route)) and all(_well(ip, end.outcome, end.error) for ip, end in ended)
                clean &= told.done() and not any(told.result().get("now", ()))
                streak, wait = streak + 1 if clean else 0, self.pause(len(got))
                if any(end.error in ("guard", "null_mx") for _, end in ended):  # no round will be better
                    return
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _resume(self, route: MxRoute, known: pd.DataFrame, said: pd.DataFrame | None) -> tuple[int, int, float]:
        """From the case's attempts: the last round, how many in a row ended well, seconds until the next.

        Well: all the route's addresses were asked, all rows are well, no list held it up since (None: no lists).
        """
        if known.empty:
            return 0, 0, 0.0
        ips, rows = {ip for _, ip in route}, zip(known.mx_ip, known.outcome, known.error, strict=True)
        known = known.assign(well=[_well(*row) for row in rows], try_number=known.try_number.ffill().fillna(1))
        rounds = known.groupby("try_number")  # rows of hosts without address had no number once
        well = rounds.well.all() & rounds.mx_ip.agg(lambda asked: ips <= set(asked)).astype(bool) & bool(ips)
        last = rounds.started_at.max()
        if said is not None:  # a round's lists are asked before it, or while it goes on
            well.iloc[-1] &= bool((said.until > last.iloc[:-1].max()).any() if len(last) > 1 else len(said))
        if said is not None and said.holds.any():
            well &= (last > said.until[said.holds].max()).shift(fill_value=False)
        gone = max(0.0, (datetime.now(UTC) - known.started_at.max()).total_seconds())  # a clock may be set back
        left = max(0.0, self.pause(known.mx_ip.nunique()) - gone)
        return int(well.index.max()), int(well[::-1].cummin().sum()), left

    def _jobs(self, route: MxRoute, number: int) -> list[Job]:
        """One session with each address of the route, or rows of what has none."""
        ips, dead = {ip: host for host, ip in reversed(list(route))}, self.asked.dead_ends(route, number)
        return [self.asked.job(route, ips[ip], ip, number) for ip in reversed(ips)] + dead
