"""tallies: what the servers of a lab counted, from its log."""

from collections import namedtuple

from smtpkit.lab import Lab

Tally = namedtuple("Tally", "sessions refusals")


def tallies(lab: Lab) -> dict[str, Tally]:
    """By server address: sessions, and sessions with a refusal or a drop (QUIT does not count)."""
    told = [one for one in lab.log if one.session and one.stage not in ("quit", "other", "lost")]
    bad = {one.session: one.ip for one in told if one.code is None or one.code >= 400}
    ips = list({one.session: one.ip for one in told}.values()), list(bad.values())
    return {ip: Tally(*(of.count(ip) for of in ips)) for ip in lab.servers}
