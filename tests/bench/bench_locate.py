"""How many sessions does `locate` need, how often is it wrong? Run: python tests/bench/bench_locate.py [runs]

Simulates smtpkit.suspicion as it is shipped. The peer is Bayes round robin (knowledge: adaptive probing): every
server in turn, one may be stale or none, stop at a posterior of 0.99; its grids hold the very rates tested, which
favours it. "same test" is our own test fed in turn: what adapting alone saves.
"""

import sys
from itertools import product

import numpy as np

from smtpkit.suspicion import judge

SERVERS, RATES, NOISE = (4, 6, 8, 10, 12), (0.3, 0.5, 0.7, 0.9, 1.0), (0.0, 0.02, 0.05)
MOST = 600
GRID = np.array([0.3, 0.5, 0.7, 0.9, 1.0]), np.array([0.0, 0.02, 0.05])


def locate(rates, seed=0, most=MOST, turns=False):
    """What our test says of servers that refuse at `rates` (runs x servers): named, why it stopped, sessions."""
    random, (runs, servers) = np.random.default_rng(seed), rates.shape
    refused, asked = np.zeros((2, runs, servers), np.int64)
    named, done = np.zeros((runs, servers), bool), np.full(runs, "", "<U5")
    live = np.arange(runs)
    for number in range(most + 1):
        now = judge(refused[live], asked[live])
        named[live], done[live] = now.named, now.done
        ask, live = now.ask[now.done == ""], live[now.done == ""]
        if number == most or not len(live):
            break
        ask = np.full(len(live), number % servers) if turns else ask
        asked[live, ask] += 1
        refused[live, ask] += random.random(len(live)) < rates[live, ask]
    return named & (done == "named")[:, None], done, asked.sum(1)


def one_stale(servers, p, q, runs):
    """Rates by run and server, and who is stale."""
    stale = np.arange(runs) % servers
    rates = np.full((runs, servers), q)
    rates[np.arange(runs), stale] = p
    return rates, stale


def round_robin(rates, seed=0, most=MOST):
    """Bayes round robin: the server named (-1: none, -2: undecided), and sessions."""
    random, (runs, servers) = np.random.default_rng(seed), rates.shape
    refused, answer, sessions = np.zeros((runs, servers), int), np.full(runs, -2), np.full(runs, most)
    live = np.arange(runs)
    for number in range(most):
        here = number % servers
        refused[live, here] += random.random(len(live)) < rates[live, here]
        asked = np.array([(number + servers - i) // servers for i in range(servers)])
        if number + 1 < servers:
            continue
        chance = _posterior(refused[live], asked)
        best = chance.argmax(1)
        sure = chance.max(1) >= 0.99
        answer[live[sure]], sessions[live[sure]] = np.where(best == servers, -1, best)[sure], number + 1
        live = live[~sure]
        if not len(live):
            break
    return answer, sessions


def _posterior(refused, asked):
    """Chance of each server to be the stale one, and of none (last)."""
    total, most = refused.sum(1), int(refused.max())
    n, m = asked.sum(), int(refused.sum(1).max())
    made = np.empty((len(refused), len(asked) + 1))
    for each in np.unique(asked):
        table = np.full((most + 1, m + 1), -np.inf)
        for k, rest in product(range(min(most, each) + 1), range(m + 1)):
            if 0 <= rest <= n - each and k + rest <= m:
                table[k, k + rest] = _mean(k, each, GRID[0]) + _mean(rest, n - each, GRID[1])
        for i in np.flatnonzero(asked == each):
            made[:, i] = table[refused[:, i], total]
    made[:, -1] = np.array([_mean(k, n, GRID[1]) for k in range(m + 1)])[total]
    made = np.exp(made - made.max(1, keepdims=True))
    return made / made.sum(1, keepdims=True)


def _mean(k, n, grid):
    with np.errstate(divide="ignore"):
        return np.log(np.mean(grid**k * (1 - grid) ** (n - k)))


def cell(servers, p, q, runs, peers=True):
    """One cell: mean sessions of all three, our median, shares wrong and undecided, the peer's wrong."""
    rates, stale = one_stale(servers, p, q, runs)
    named, done, sessions = locate(rates)
    right = (named.sum(1) == 1) & named[np.arange(runs), stale]
    row = {"ours": sessions.mean(), "median": np.median(sessions)}
    row |= {"wrong": ((done != "") & ~right).mean(), "open": (done == "").mean()}
    if peers:
        answer, theirs = round_robin(rates, 1)
        row |= {"robin": theirs.mean(), "robin wrong": (answer != stale).mean()}
        row |= {"same test": locate(rates, 2, turns=True)[2].mean()}
    return row


def print_table(runs):
    print(f"{runs} runs a cell; sessions are means; one server of N refuses p of all sessions, the others q each\n")
    print("| N | p | q | Bayes round robin (wrong) | same test in turn | locate (median) | ratio | wrong | open |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    for servers, p, q in product(SERVERS, RATES, NOISE):
        row = cell(servers, p, q, runs)
        rows.append(row | {"N": servers, "ratio": row["ours"] / row["robin"]})
        print(f"| {servers} | {p:g} | {q:g} | {row['robin']:.1f} ({row['robin wrong']:.2%}) "
              f"| {row['same test']:.1f} | {row['ours']:.1f} ({row['median']:.0f}) | {rows[-1]['ratio']:.2f} "
              f"| {row['wrong']:.2%} | {row['open']:.2%} |", flush=True)  # fmt: skip
    ratios, same = [r["ratio"] for r in rows], [r["ours"] / r["same test"] for r in rows]
    ends = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"\nsessions, locate / Bayes round robin: median {np.median(ratios):.3f}, {ends}")
    by = ", ".join(f"N={n} {np.median([r['ratio'] for r in rows if r['N'] == n]):.2f}" for n in SERVERS)
    print(f"its median by number of servers: {by}")
    print(f"sessions, locate / the same test in turn: median {np.median(same):.3f}")
    print(f"wrong: mean {np.mean([r['wrong'] for r in rows]):.3%}, worst cell {max(r['wrong'] for r in rows):.2%}; "
          f"Bayes round robin's worst {max(r['robin wrong'] for r in rows):.2%}")  # fmt: skip


def print_alike(runs):
    print(
        "\nNone is stale: all refuse q alike (above 0.05 nothing is guaranteed); at most 60 sessions, as shipped\n"
    )
    print("| N | q | accused wrongly | said clear or alike | sessions | without a limit: accused, sessions |")
    print("|---|---|---|---|---|---|")
    for servers, q in product((4, 8, 12), (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.8, 1.0)):
        rates = np.full((runs, servers), q)
        named, done, sessions = locate(rates, 3, 60)
        far = locate(rates, 3) if q <= 0.05 else None
        more = f"{far[0].any(1).mean():.2%}, {far[2].mean():.0f}" if far else ""
        print(f"| {servers} | {q:g} | {named.any(1).mean():.2%} | {np.isin(done, ['clear', 'alike']).mean():.1%} "
              f"| {sessions.mean():.1f} | {more} |", flush=True)  # fmt: skip


def print_two(runs):
    print("\nTwo are stale (both refuse p), the others refuse 0.02 each\n")
    print("| N | p | both named | one named | an innocent named | mean sessions |\n|---|---|---|---|---|---|")
    for servers, p in product((4, 8, 12), (0.5, 1.0)):
        rates, stale = one_stale(servers, p, 0.02, runs)
        rates[np.arange(runs), (stale + 2) % servers] = p
        named, _, sessions = locate(rates, 4)
        guilty, found = rates == p, (named & (rates == p)).sum(1)
        print(f"| {servers} | {p:g} | {(found == 2).mean():.1%} | {(found == 1).mean():.1%} "
              f"| {(named & ~guilty).any(1).mean():.2%} | {sessions.mean():.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    many = int(sys.argv[1]) if sys.argv[1:] else 5000
    print_table(many)
    print_alike(many)
    print_two(many)
