"""What readers proved of pace, ledger and casebook: refusals forgotten, visits ended too early, blind checks."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import smtpkit as sk
from smtpkit.journal import Journal, Ledger
from smtpkit.limits import Pace, Visit
from smtpkit.network import Internet
from tests.fasttime import FastTime
from tests.faultserver import GOOD, SILENT, FaultServer

ROOT = Path(__file__).parents[1]
TO, SENDER, IP = "r@fault.example", "me@ours.example", "192.0.2.1"


def network(path: Path, **more: Any) -> Internet:
    given = {"guard": sk.Guard(allow_to=[TO]), "pace": Pace.none()} | more
    ours = {"casebook": path / "c.sqlite", "ledger": path / "l.sqlite", "helo": "client.example"}
    return sk.internet(allow_networks=["127.0.0.0/8"], **ours, **given)


# pace -----------------------------------------------------------------------------------------------------------
def test_a_session_that_we_broke_off_does_not_end_a_row_of_refusals() -> None:
    row = [Visit(at, IP, at + 1, refused) for at, refused in ((0, True), (100, True), (300, True), (700, None))]
    assert Pace().wait(row, IP, 702.0) == 19, "the rest is over, not yet the gap after the last session"
    assert Pace(rests=(60, 120, 500)).wait(row, IP, 702.0) == 301 + 500 - 702
    row[-1] = Visit(700, IP, 701, refused=False)
    assert Pace(rests=(60, 120, 500)).wait(row, IP, 702.0) == 19, "one that got through does"


def test_the_ledger_knows_which_sessions_we_broke_off(tmp_path: Path) -> None:
    net = network(tmp_path, pace=Pace(receiver_gap=0, ip_gap=0, rests=(0,)))
    for banner in (b"421 4.7.0 busy\r\n", SILENT, GOOD["banner"]):
        with FaultServer({"banner": banner}) as server:
            where = {"server": ("127.0.0.1", server.address[1]), "network": net, "rounds": 1}
            run = sk.probe("fault.example", background=True, **where)
            while banner is SILENT and not server.sessions:
                time.sleep(0.01)
            if banner is SILENT:
                run.stop()
            run.wait()
    with closing(Ledger(net.ledger)) as ledger:
        assert [visit.refused for visit in ledger.visits("", "127.0.0.1", time.time())] == [True, None, False]


KILLED = """
import os, sys; from pathlib import Path; from smtpkit.journal import Ledger; from smtpkit.limits import Pace
print(Ledger(Path(sys.argv[1])).ask(Pace(), "fault.example", "192.0.2.1", 1000.0)[1], flush=True); os._exit(9)
"""


def test_a_killed_session_may_have_lasted_until_it_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    made = subprocess.run([sys.executable, "-c", KILLED, path], cwd=ROOT, capture_output=True, text=True)
    assert (made.returncode, made.stdout) == (9, "1\n"), made.stderr
    with closing(Ledger(path)) as ledger:
        assert ledger.ask(Pace(), "fault.example", IP, 1500.0) == (20.0, None)
        assert ledger.ask(Pace(), "fault.example", IP, 1510.0) == (10.0, None), "it ended then, and stays so"
        assert ledger.ask(Pace(), "fault.example", IP, 1520.0)[1] is not None
        (old, _) = ledger.visits("fault.example", IP, 1520.0)
        assert (old.ended, old.refused) == (1500.0, None)
    assert [one.name for one in tmp_path.glob(".*")] == [], "no lock file is left"


def test_a_process_with_the_id_of_one_that_was_killed_is_another(tmp_path: Path) -> None:
    """So it is with kernels in containers."""
    with closing(Ledger(tmp_path / "l.sqlite")) as ledger:
        sql = "insert into visits (receiver, ip, at, pid) values ('fault.example', ?, 1000, ?)"
        ledger.base.execute(sql, (IP, os.getpid()))
        assert ledger.ask(Pace(), "fault.example", IP, 1500.0) == (20.0, None)
        assert ledger.ask(Pace(), "fault.example", IP, 1520.0)[1] is not None


def test_a_session_counts_as_open_as_long_as_it_lives(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "l.sqlite")) as mine, closing(Ledger(tmp_path / "l.sqlite")) as other:
        _, number = mine.ask(Pace(), "fault.example", IP, 1000.0)
        assert number is not None
        for now in (4500.0, 5000.0, 40_000.0):
            assert other.ask(Pace(), "fault.example", "192.0.2.2", now) == (5.0, None)
        mine.end(number, 50_000.0, False, False)
        assert other.ask(Pace(), "fault.example", "192.0.2.2", 50_005.0)[1] is not None


def test_no_pause_at_a_public_address_is_the_usual_pace_in_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FastTime(3000).install(monkeypatch)
    monkeypatch.setattr(Internet, "unpaced", lambda *_: False)
    with FaultServer({"banner": b"421 4.7.1 blocked\r\n"}) as server:
        net = network(tmp_path)
        frame = sk.probe("fault.example", server=server.address, network=net, rounds=9)
    assert list(frame.outcome) == ["deferred"] * 6 + ["withheld"] * 3
    assert set(frame.error.dropna()) == {"paced"}


# casebook -------------------------------------------------------------------------------------------------------
FORKED = """
import os, signal, sys, time; from pathlib import Path
from smtpkit.journal import Ledger; from smtpkit.limits import Pace
ledger = Ledger(Path(sys.argv[1])); ledger.ask(Pace(), "fault.example", "192.0.2.1", 1000.0)
near, far = os.pipe()
if os.fork() == 0:
    os.write(far, b"x"); os.close(0); os.close(1); os.close(2); time.sleep(5); os._exit(0)
os.read(near, 1); os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no process")
def test_a_forked_child_does_not_keep_its_parents_visit_open(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    subprocess.run([sys.executable, "-c", FORKED, path], cwd=ROOT, check=False)
    with closing(Ledger(path)) as ledger:
        assert ledger.ask(Pace(), "fault.example", IP, 1500.0) == (20.0, None)
        assert ledger.ask(Pace(), "fault.example", IP, 1520.0)[1] is not None


def test_the_lock_file_of_another_user_is_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Ledger(tmp_path / "l.sqlite")) as mine, closing(Ledger(tmp_path / "l.sqlite")) as other:
        assert mine.ask(Pace(), "fault.example", IP, 1000.0)[1] is not None

        def closed(*_: Any, **__: Any) -> Any:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", closed)
        assert other.ask(Pace(), "fault.example", "192.0.2.2", 2000.0) == (5.0, None)


@pytest.fixture
def book(tmp_path: Path) -> sk.Casebook:
    """Two messages delivered, in runs of their own, and a probe."""
    net = network(tmp_path)
    with FaultServer({}) as server:
        where = {"server": server.address, "network": net, "tls": "off"}
        for n in (1, 2):
            text = f"From: {SENDER}\r\nMessage-ID: <{n}@ours.example>\r\n\r\nnumber {n}\r\n".encode()
            frame = sk.send(text, TO, sender=SENDER, live=True, **where)
            assert list(frame.outcome) == ["accepted"]
            assert "claim" not in frame
        sk.probe("fault.example", rounds=2, **where)
    return sk.Casebook(net.casebook)


def change(book: sk.Casebook, *statements: str) -> None:
    with closing(sqlite3.connect(book.path)) as base, base:
        for statement in statements:
            base.execute(statement)


TWO = "(select min(session) from attempts), (select max(session) from attempts)"
SWAP = f"update attempts set session = iif(session = x.a, x.b, x.a) from (select {TWO.replace(', (', ' a, (')} b) x"


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        (f"{SWAP} where session in (x.a, x.b)", {"attempts"}),
        ("update attempts set run = 'x' where planned like '%<1@ours%'", {"attempts", "runs"}),
        ("update claims set key = 'f' || substr(key, 2) || '0'", {"claims"}),
        ("delete from claims", {"claims"}),
        ("update claims set attempt_id = (select max(attempt_id) from claims)", {"claims"}),
        ("delete from attempts where planned like '%<1@ours%'", {"replies", "runs"}),
        ("delete from attempts", {"replies", "runs"}),
    ],
    ids="sessions run claims unclaimed owners one all".split(),
)
def test_what_ties_evidence_together_is_checked(statement: str, tables: set[str], book: sk.Casebook) -> None:
    assert book.verify().empty
    change(book, statement)
    assert set(book.verify().table) == tables


def test_that_all_was_taken_away_is_seen_by_the_runs(book: sk.Casebook) -> None:
    change(book, "delete from attempts", "delete from replies")
    found = book.verify()
    assert set(found.table) == {"runs"}
    assert len(found) == 3


def test_what_is_purged_while_its_run_goes_on_is_sound(tmp_path: Path) -> None:
    net = network(tmp_path)
    with FaultServer({}) as server:
        step = sk.Dialogue(server.address, network=net)
        book = sk.Casebook(net.casebook)
        sk.probe("fault.example", server=server.address, network=net, rounds=1, tls="off")
        book.purge(0)
        step.quit()
    assert book.verify().empty


def test_what_is_purged_or_merged_is_sound(book: sk.Casebook, tmp_path: Path) -> None:
    other = sk.Casebook(tmp_path / "other.sqlite")
    assert other.merge(book.path) == 4
    assert other.verify().empty
    assert other.purge(0) == 4
    assert other.verify().empty
    assert other.merge(book.path) == 4, "and what was purged may come back"
    assert other.verify().empty


def test_an_interrupted_message_keeps_its_claim(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    killed = Journal(path, {})
    killed.begin("s", [("a", {})])
    assert killed.claim(["a"], ["key"])
    killed.commit()
    killed.base.close()
    killed._lock.drop()
    book = sk.Casebook(path)
    assert list(book.attempts().outcome) == ["unknown"]
    assert book.verify().empty
    change(book, "delete from claims")
    assert set(book.verify().table) == {"claims"}


@pytest.mark.parametrize("begun", [1e7, 1000.0], ids=["ahead all the time", "set forward meanwhile"])
def test_visits_of_a_clock_that_was_ahead_grow_old(begun: float, tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "l.sqlite")) as ledger:
        _, number = ledger.ask(Pace(), "fault.example", IP, begun)
        ledger.end(number or 0, 1e7, refused=False, stop=False)
        waits = [ledger.ask(Pace(), "fault.example", IP, now)[0] for now in (1001.0, 1011.0, 1021.0)]
    assert waits == [20, 10, 0], "a wait that never ends"


def test_a_run_that_lost_its_lock_file_still_tells_what_came(tmp_path: Path) -> None:
    living = Journal(tmp_path / "c.sqlite", {})
    living.begin("s", [("a", {"recipient": TO})])
    assert living.claim(["a"], ["key"])
    living.commit()
    living._lock.path.unlink()  # somebody tidied the folder
    Journal(tmp_path / "c.sqlite", {}).close()
    assert list(sk.Casebook(tmp_path / "c.sqlite").attempts().outcome) == ["unknown"]
    living.finish([("a", {"stage": "body", "outcome": "accepted", "maybe_delivered": True, "code": 250})], ["key"])
    living.commit()
    living.close()
    assert list(sk.Casebook(tmp_path / "c.sqlite").attempts().outcome) == ["accepted"], "the answer was lost"
