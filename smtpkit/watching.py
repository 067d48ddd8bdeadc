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

from smtpkit.address import host_name
from smtpkit.campaign import Rules, Run, run
from smtpkit.casebook import Casebook
from smtpkit.catalogue import rows as catalogue
from smtpkit.checks import dnsbl
from smtpkit.errors import refuse
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

    Each round resolves the domain anew (a route of `lookup_mx` stays as it is). A case that was broken off goes on
    where its casebook ends; one that ended well returns at once. What lists say: `checks.dnsbl.history(casebook)`.
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
    rules["case"] = rules["case"] or f"watch {route.domain}"
    found = Rules.of(net, **rules)
    paced = found.pace != Pace.none()
    for name, number in (("clear", clear), ("rounds", 1 if rounds is None else rounds)):
        if not isinstance(number, int) or number < 1:
            raise refuse(name, number, "is no number of rounds", "write a whole number of 1 or more")
    if not isinstance(every, int | float):
        raise refuse("every", every, "is no number", "write seconds, such as 1800")
    if not every > 0 or (every < LEAST and paced):
        raise refuse("every", every, "is no polite interval", f"write {LEAST:g} seconds or more")
    if paced:  # each ask is a round apart and may wait: neither refusals nor a long rest end the watch
        rules["pace"] = replace(found.pace, asks_after_refusal=1_000_000, patience=DAY)
    names = [row["zone"] for row in catalogue("dnsbl_zones.csv") if row["kind"] == "ip"]
    zones = [zones] if isinstance(zones, str) else zones
    wanted = names if zones is None else [host_name("zones", zone) for zone in zones]
    book, ip = Casebook(found.casebook), net.sender_ip
    lists = partial(dnsbl.lookup, ip, net, wanted, casebook=book) if ip and wanted else pd.DataFrame
    find = partial(find_route, domain, keywords.get("server"), keywords.get("server_name"), net)
    plan = _Watch(asked, find, lists, partial(_pause, every, found.pace.per_day), clear, rounds)
    known = book.attempts(found.case, classify=False)
    said = dnsbl.history(book) if ip and wanted else pd.DataFrame(columns=["state", "subject", "until"])
    listed = said.until[(said.state == "listed") & (said.subject == ip)].max()
    label = f"watch {route.domain}"
    made = run(plan.plan(route, known, listed), net, label=label, background=background, **rules)
    return made if isinstance(made, Run) else book.attempts(found.case)


def _pause(every: float, per_day: int | None, sessions: int) -> float:
    """Seconds between rounds of so many sessions."""
    return max(every, DAY * sessions / per_day if per_day else 0.0)


@dataclass(frozen=True, slots=True)
class _Watch:
    asked: Question
    find: Callable[[], MxRoute]
    lists: Callable[[], pd.DataFrame]
    pause: Callable[[int], float]
    clear: int
    rounds: int | None

    def plan(self, route: MxRoute, known: pd.DataFrame, listed: Any) -> Plan:
        """Rounds until all is clear. The lists are asked before each, in a thread: nobody here waits for DNS."""
        number, streak, wait = self._resume(route, known, listed)
        last, pool = number + (self.rounds or sys.maxsize), ThreadPoolExecutor(1)
        try:
            while streak < self.clear and number < last:
                number, told = number + 1, pool.submit(self.lists)
                first = self._jobs(route, number)[0]
                got = yield from hold([replace(first, after=wait)])
                route = self.find()
                got += yield from hold([job for job in self._jobs(route, number) if job.ip != first.ip])
                passed = {result.job.ip: result.verdicts[0].outcome == "passed" for result in got}
                clean = bool(list(route)) and all(passed.get(ip) for _, ip in route)
                clean &= told.done() and "listed" not in set(told.result().get("state", ()))
                streak, wait = streak + 1 if clean else 0, self.pause(len(got))
                if any(result.verdicts[0].error == "guard" for result in got):
                    return
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _resume(self, route: MxRoute, known: pd.DataFrame, listed: Any) -> tuple[int, int, float]:
        """From the case's attempts: the last round, how many in a row ended well, seconds until the next.

        Well: the route's addresses were all asked, all accepted, and no list had us since (`listed`: last time).
        """
        if known.empty:
            return 0, 0, 0.0
        rounds, ips = known.groupby("try_number"), {ip for _, ip in route}
        well = known.outcome.eq("passed").groupby(known.try_number).all()
        well &= rounds.mx_ip.agg(lambda asked: ips <= set(asked)) & bool(ips)
        if pd.notna(listed):  # a round's lists are asked before it, or while it goes on
            well &= (rounds.started_at.max() > listed).shift(fill_value=False)
        gone = (datetime.now(UTC) - known.started_at.max()).total_seconds()
        left = max(0.0, self.pause(known.mx_ip.nunique()) - gone)
        return int(well.index.max()), int(well[::-1].cummin().sum()), left

    def _jobs(self, route: MxRoute, number: int) -> list[Job]:
        """One session with each address of the route, or rows of what has none."""
        ips = {ip: host for host, ip in reversed(list(route))}
        return [self.asked.job(route, ips[ip], ip, number) for ip in reversed(ips)] + self.asked.dead_ends(route)
