"""Faults around a campaign: store, process, clock, network. No attempt lost, none sent twice, every fault loud."""

import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from smtpkit import campaign, journal
from smtpkit.errors import StoreError
from smtpkit.limits import Pace
from tests.faultserver import CLOSE, DEAF, GOOD, RESET, SILENT, Drip, FaultServer, Flood, Script, Wait

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TO, SENDER = "r@fault.example", "me@ours.example"
HASTY = sk.Timeouts(connect=1, handshake=1, reply=1, final=1, quit=0.3)


def message(n: int) -> bytes:
    return f"From: {SENDER}\r\nMessage-ID: <{n}@ours.example>\r\nSubject: {n}\r\n\r\nnumber {n}\r\n".encode()


def network(path: Path, **more: Any) -> sk.network.Internet:
    guard = sk.Guard(allow_to=(TO,), max_messages=10**6, max_connections=10**6)
    return sk.internet(
        allow_networks=["127.0.0.0/8"], pace=sk.Pace.none(), helo="client.example", guard=guard, timeouts=HASTY,
        casebook=path / "c.sqlite", ledger=path / "l.sqlite", **more,
    )  # fmt: skip


def send(n: int, server: FaultServer, net: sk.network.Internet, **more: Any) -> pd.DataFrame:
    how = {"server": server.address, "server_name": "mx.fault.example", "tls": "off", "live": True} | more
    return sk.send(message(n), TO, sender=SENDER, network=net, **how)


def dots(server: FaultServer) -> Counter[int]:
    """How often the server read each message to its final dot."""
    found = [re.search(rb"Message-ID: <(\d+)@", bytes(session.body)) for session in server.sessions]
    return Counter(int(match[1]) for match in found if match)


def held_rightly(path: Path, server: FaultServer) -> pd.DataFrame:
    """The invariants: rows read back and are sound, each dot has its row, no message left twice."""
    book = sk.Casebook(path / "c.sqlite")
    rows, seen = book.attempts(), dots(server)
    assert book.verify().empty
    assert rows["outcome"].notna().all()
    assert max(seen.values(), default=1) == 1
    taken = rows[rows["outcome"].isin(["accepted", "unknown"])]["message_id"].str.extract(r"<(\d+)@", expand=False)
    assert set(seen) <= set(taken.astype(int)), "what the server read to its dot stands as accepted or unknown"
    return rows


class Failing(sqlite3.Connection):
    """A connection whose n-th statement fails, and every later one."""

    left, error = 10**9, "disk I/O error"

    def _count(self) -> None:
        Failing.left -= 1
        if Failing.left < 0:
            raise sqlite3.OperationalError(Failing.error)

    def execute(self, *args: Any) -> Any:
        self._count()
        return super().execute(*args)

    def executemany(self, *args: Any) -> Any:
        self._count()
        return super().executemany(*args)


@contextmanager
def failing(patch: pytest.MonkeyPatch, at: int, error: str) -> Iterator[None]:
    real = sqlite3.connect
    with patch.context() as inner:
        inner.setattr(Failing, "left", at)
        inner.setattr(Failing, "error", error)
        inner.setattr(journal.sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=Failing))
        yield


@pytest.mark.parametrize(
    "error", ["disk I/O error", "database or disk is full", "attempt to write a readonly database"]
)
def test_the_nth_write_fails(error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """n from the first statement to a clean run: loud each time, and no dot without its row."""
    with FaultServer(GOOD) as server:
        sk.Casebook(tmp_path / "c.sqlite")
        told = []
        for n in range(200):
            try:
                with failing(monkeypatch, n, error):
                    send(n, server, network(tmp_path))
            except StoreError as no:
                told.append(str(no))
            else:
                break
        assert all(error in one and "nothing" in one for one in told)
        assert 10 < n < 199, "every statement of a send was made to fail"
        server.settled()
        rows = held_rightly(tmp_path, server)
    assert (rows["outcome"] == "accepted").sum() >= 1


@pytest.mark.slow
def test_space_comes_back_and_work_goes_on(tmp_path: Path) -> None:
    """A full disk (a file may not grow) in a process of its own, then the same cell again without the limit."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from pathlib import Path; from tests import test_store_faults as t\n"
        "import smtpkit as sk; from smtpkit.errors import StoreError\n"
        "path, port, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])\n"
        "class Server: address = ('127.0.0.1', port)\n"
        "net = t.network(path); sk.Casebook(net.casebook)\n"
        "if limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "try:\n    for n in range(40): t.send(n, Server, net)\n"
        "except StoreError as error: print('LOUD', error); sys.exit(3)"
    )
    with FaultServer(GOOD) as server:
        command = [sys.executable, "-c", code, str(tmp_path), str(server.address[1])]
        first = subprocess.run([*command, "150000"], cwd=ROOT, capture_output=True, text=True)
        assert (first.returncode, "LOUD" in first.stdout) == (3, True), first.stdout + first.stderr
        before = len(dots(server))
        assert 0 < before < 40
        again = subprocess.run([*command, "0"], cwd=ROOT, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        server.settled()
        held_rightly(tmp_path, server)
        assert len(dots(server)) >= 39, "all but one that may be delivered already"


def test_torn_writes_open_and_say_what_is_left(tmp_path: Path) -> None:
    """The store and its log, the log cut by 1 to n octets, as power loss leaves them: opens, nothing invented."""
    with FaultServer(GOOD) as server:
        sk.Casebook(tmp_path / "c.sqlite")
        book = sqlite3.connect(tmp_path / "c.sqlite")
        book.execute("select count(*) from attempts").fetchone()  # open: the write-ahead log is not folded in
        for n in range(3):
            send(n, server, network(tmp_path))
        whole = sk.Casebook(tmp_path / "c.sqlite").attempts(classify=False)
        wal = (tmp_path / "c.sqlite-wal").read_bytes()
        assert len(whole) == 3
        assert len(wal) > 10_000
        for n, cut in enumerate([*range(1, 5000, 450), len(wal) // 2, len(wal) - 1, len(wal)]):
            place = tmp_path / f"torn{n}"
            place.mkdir()
            shutil.copy(tmp_path / "c.sqlite", place)
            (place / "c.sqlite-wal").write_bytes(wal[:-cut])
            torn = sk.Casebook(place / "c.sqlite")
            rows = torn.attempts(classify=False)
            assert torn.verify().empty
            assert set(rows["attempt_id"]) <= set(whole["attempt_id"])
            assert set(rows["outcome"]) <= {"accepted", "unknown", "failed"}
            assert set(rows.loc[rows["outcome"] != "accepted", "error"]) <= {"interrupted"}
        book.close()


def test_interrupt_ends_what_runs_and_the_cell_can_be_run_again(tmp_path: Path) -> None:
    """SIGINT while a server is silent: one frame, marked stopped, at once; then the same again."""
    with FaultServer({"ehlo": SILENT}) as server:
        net = network(tmp_path)
        for _ in range(2):
            timer = threading.Timer(0.4, signal.raise_signal, [signal.SIGINT])
            timer.start()
            slow = sk.Timeouts(reply=30)
            frame = sk.probe("fault.example", server=server.address, network=net, timeouts=slow, rounds=1)
            assert frame.attrs["smtpkit"]["stopped"]
            assert list(frame["error"]) == ["stopped"]
            assert list(frame["outcome"]) == ["failed"]
            timer.join()


def test_interrupt_after_the_dot_is_unknown_and_is_not_sent_again(tmp_path: Path) -> None:
    with FaultServer({"dot": SILENT}) as server:
        net = network(tmp_path)
        timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
        timer.start()
        frame = send(1, server, net, timeouts=sk.Timeouts(final=60))
        timer.join()
        assert (frame["outcome"].iloc[0], frame["error"].iloc[0]) == ("unknown", "stopped")
        assert frame["maybe_delivered"].iloc[0]
        again = send(1, server, net)
        assert list(again["outcome"]) == ["withheld"]
        server.settled()
        held_rightly(tmp_path, server)


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced by an older copy"])
def test_a_store_that_goes_away_while_open_stops_the_run(how: str, tmp_path: Path) -> None:
    """Hooked before the dot: nothing more is sent, and it is said."""
    store, old = tmp_path / "c.sqlite", tmp_path / "old.sqlite"
    sk.Casebook(store)
    shutil.copy(store, old)

    def go(_: object = None) -> None:
        if how == "moved":
            store.rename(tmp_path / "elsewhere.sqlite")
        else:
            store.unlink()
            if how.startswith("replaced"):
                shutil.copy(old, store)

    class Hooked(FaultServer):
        pass

    script: Script = {"data": (Wait(0.3), b"354 go\r\n")}
    with Hooked(script) as server:
        timer = threading.Timer(0.15, go)
        timer.start()
        with pytest.raises(StoreError, match=r"moved|cannot write casebook"):
            send(1, server, network(tmp_path))
        timer.join()
        server.settled()
        assert dots(server) == {}, "the dot waits for its mark"


def test_a_fork_with_an_open_store_is_refused(tmp_path: Path) -> None:
    made = journal.Journal(tmp_path / "c.sqlite", {})
    child = os.fork()
    if not child:
        try:
            made.begin("s", [("a", {})])
        except StoreError as error:
            os._exit(7 if "fork" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    made.close()


@pytest.mark.slow
def test_two_kernels_on_one_casebook(tmp_path: Path) -> None:
    """Two processes of four threads each: no row lost, no message twice, no "database is locked"."""
    code = (
        "import sys, threading; from pathlib import Path; from tests import test_store_faults as t\n"
        "path, port, first = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])\n"
        "class Server: address = ('127.0.0.1', port)\n"
        "def work(k):\n    for n in range(first + k, first + 40, 4): t.send(n, Server, t.network(path))\n"
        "threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]"
    )
    with FaultServer(GOOD) as server:
        where = [sys.executable, "-c", code, str(tmp_path), str(server.address[1])]
        both = [
            subprocess.Popen([*where, first], cwd=ROOT, stderr=subprocess.PIPE, text=True) for first in ("0", "20")
        ]
        for process in both:
            _, said = process.communicate(timeout=120)
            assert "Error" not in said
            assert process.returncode == 0
        server.settled()
        rows = held_rightly(tmp_path, server)
    assert set(dots(server)) == set(range(60)), "20 to 39 were asked for by both, and left once"
    assert Counter(rows["outcome"]) == {"accepted": 60, "withheld": 20}


@pytest.mark.parametrize("step", [-3600, 86400], ids=["back an hour", "on a day"])
def test_the_wall_clock_steps(step: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Durations, deadlines and order do not follow it; pacing forgets nothing."""
    real = time.time_ns
    with FaultServer({"dot": (Wait(0.2), GOOD["dot"])}) as server:  # type: ignore[dict-item]  # GOOD holds octets there
        net = network(tmp_path)
        send(1, server, net)
        monkeypatch.setattr(time, "time_ns", lambda: real() + int(step * 1e9))
        frame = send(2, server, net)
    rows = sk.Casebook(net.casebook).attempts()
    assert list(rows["message_id"]) == ["<1@ours.example>", "<2@ours.example>"], "sorted as it happened"
    assert 0.2 <= frame["latency_s"].iloc[0] < 5
    assert (rows.filter(like="_s").select_dtypes("float64").fillna(0) >= 0).all(axis=None)


def test_pacing_after_the_clock_was_set_back(tmp_path: Path) -> None:
    ledger = journal.Ledger(tmp_path / "l.sqlite")
    _, number = ledger.ask(Pace(), "daum.example", "192.0.2.1", 10_000.0)
    assert number is not None
    ledger.end(number, 10_001.0, False, False)
    wait, again = ledger.ask(Pace(), "daum.example", "192.0.2.1", 6_400.0)
    assert again is None
    assert 0 < wait <= 20, "as if it had been just now: neither for ever nor not at all"
    ledger.close()


@pytest.mark.slow
def test_a_stopped_process_wakes_up(tmp_path: Path) -> None:
    """SIGSTOP over the final dot's deadline, as a laptop's sleep: no wrong word afterwards."""
    code = (
        "import sys; from pathlib import Path; from tests import test_store_faults as t\n"
        "class Server: address = ('127.0.0.1', int(sys.argv[2]))\n"
        "print(t.send(1, Server, t.network(Path(sys.argv[1])))['outcome'].iloc[0])"
    )
    with FaultServer({"dot": (Wait(0.8), CLOSE)}) as server:
        command = [sys.executable, "-c", code, str(tmp_path), str(server.address[1])]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            while not dots(server):
                time.sleep(0.02)
                assert process.poll() is None
            process.send_signal(signal.SIGSTOP)
            time.sleep(2)
            process.send_signal(signal.SIGCONT)
            said, _ = process.communicate(timeout=20)
        assert said.strip() == "unknown"
        server.settled()
        held_rightly(tmp_path, server)


def test_descriptors_run_out(tmp_path: Path) -> None:
    """Sixty addresses with twenty descriptors left: each attempt still has its row, and says what happened."""
    code = (
        "import resource, os, sys; from pathlib import Path; from tests import test_store_faults as t\n"
        "import smtpkit as sk; from smtpkit.mx import MxHost\n"
        "ips = [f'192.0.2.{n}' for n in range(1, 61)]; to = ('127.0.0.1', int(sys.argv[2]))\n"
        "net = t.network(Path(sys.argv[1]), reroute={(ip, 25): to for ip in ips})\n"
        "hosts = tuple(MxHost(f'mx{n}.fault.example', 10, (ip,)) for n, ip in enumerate(ips))\n"
        "sk.Casebook(net.casebook).attempts()\n"
        "limit = len(os.listdir('/proc/self/fd')) + 20\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))\n"
        "frame = sk.probe(sk.MxRoute('fault.example', 'mx', hosts), network=net, rounds=1)\n"
        "print(len(frame), sorted(frame['outcome'].dropna().unique()), sorted(frame['error'].dropna().unique()))"
    )
    with FaultServer({"banner": (Wait(0.5), GOOD["banner"])}) as server:  # type: ignore[dict-item]  # GOOD holds octets there
        command = [sys.executable, "-c", code, str(tmp_path), str(server.address[1])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "60 ['failed', 'passed'] ['interrupted']"


@pytest.mark.parametrize("error", [BrokenPipeError("front end gone"), ValueError("I/O operation on closed file")])
def test_a_progress_line_that_cannot_be_shown(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(campaign.Progress, "_draw", broken)
    monkeypatch.setattr("smtpkit.progress.YOUNG", 0.0)
    with FaultServer({"dot": (Wait(0.3), GOOD["dot"])}) as server:  # type: ignore[dict-item]  # GOOD holds octets there
        assert list(send(1, server, network(tmp_path))["outcome"]) == ["accepted"]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and util-linux's unshare")
def test_the_network_is_cut(tmp_path: Path) -> None:
    """A network namespace whose only interface goes down at a hook: failed before the dot, unknown after it."""
    code = (
        "import subprocess, sys, threading; from pathlib import Path; from tests import test_store_faults as t\n"
        "from tests.faultserver import GOOD, Wait, FaultServer, SILENT\n"
        "subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)\n"
        "down = lambda: subprocess.run(['ip', 'link', 'set', 'lo', 'down'], check=True)\n"
        "path = Path(sys.argv[1])\n"
        "with FaultServer({sys.argv[2]: (Wait(1.5), GOOD[sys.argv[2]])}) as server:\n"
        "    threading.Timer(0.7, down).start()\n"
        "    first = t.send(1, server, t.network(path)); second = t.send(2, server, t.network(path))\n"
        "    print(*first.outcome, *second.outcome, *second.error)"
    )
    for point, outcome in (("rcpt", "failed"), ("dot", "unknown")):
        place = tmp_path / point
        place.mkdir()
        command = ["unshare", "-n", sys.executable, "-c", code, str(place), point]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.stdout.split() in ([outcome, "failed", "unreachable"], [outcome, "failed", "timeout"]), (
            done.stderr
        )


HOSTILE: dict[str, Script] = {
    "endless line": {"banner": Flood(b"x" * 4096)},
    "endless reply": {"ehlo": Flood(b"250-more\r\n")},
    "drip": {"banner": Drip(b"220 slow " * 40, gap=0.1)},
    "deaf": {"mail": DEAF},
    "silent": {"ehlo": SILENT},
    "reset": {"rcpt": RESET},
    "garbage": {"banner": bytes(range(256)) * 20},
    "hangs up": {"connect": CLOSE},
}


def test_all_at_once_and_nobody_delays_the_good(tmp_path: Path) -> None:
    """Every hostile server in one campaign with four good ones: own bounds, bounded memory, nothing leaks."""
    servers = {name: FaultServer(script) for name, script in HOSTILE.items()}
    servers |= {f"good {n}": FaultServer(GOOD) for n in range(4)}
    from smtpkit.mx import MxHost

    ips = {name: f"192.0.2.{n}" for n, name in enumerate(servers, 1)}
    roads = {(ip, 25): servers[name].address for name, ip in ips.items()}
    hosts = tuple(MxHost(f"mx{ip.split('.')[3]}.fault.example", 10, (ip,)) for ip in ips.values())
    with all_of(servers):
        handles, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        memory, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        net = network(tmp_path, reroute=roads)
        frame = sk.probe(sk.MxRoute("fault.example", "mx", hosts), TO, SENDER, network=net, rounds=1)
        took = time.monotonic() - begun
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    by_name = frame.set_index(frame["mx_ip"].map({ip: name for name, ip in ips.items()}))
    good = by_name[by_name.index.str.startswith("good")]
    assert set(good["outcome"]) == {"passed"}
    assert good["latency_s"].max() < 1.0
    assert set(by_name.drop(good.index)["outcome"]) == {"failed"}
    assert took < 6
    assert grown < 64, f"{grown:.0f} MB more"
    assert len(os.listdir("/proc/self/fd")) <= handles
    assert threading.active_count() <= threads


@contextmanager
def all_of(servers: dict[str, FaultServer]) -> Iterator[None]:
    """Enter all servers; leave them all."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        for server in servers.values():
            stack.enter_context(server)
        yield


def test_a_worker_that_fails_is_loud_and_ends_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of our own in the middle of a session: EngineFault to the caller, the row says interrupted."""
    real: Callable[..., Any] = campaign.evidence.row

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a bug of ours")

    with FaultServer(GOOD) as server:
        monkeypatch.setattr(campaign.evidence, "row", broken)
        with pytest.raises(sk.errors.EngineFault, match="ZeroDivisionError"):
            send(1, server, network(tmp_path))
        monkeypatch.setattr(campaign.evidence, "row", real)
        rows = held_rightly(tmp_path, server)
    assert list(rows["error"]) == ["interrupted"]
    assert list(rows["outcome"]) == ["unknown"]


@pytest.mark.slow
def test_kernel_restart_and_run_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same notebook in three new kernels: the mail leaves once; edited, it is another mail and leaves."""
    import nbformat

    from smtpkit.running import run_notebook

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    outcomes = []
    with FaultServer(GOOD) as server:
        for number in (1, 1, 2, 1):
            cells = [
                "import sys; from pathlib import Path; from tests import test_store_faults as t",
                f"class Server: address = {server.address!r}",
                f"print(t.send({number}, Server, t.network(Path('.')))['outcome'].iloc[0])",
            ]
            made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
            nbformat.write(made, "mail.ipynb")
            assert run_notebook("mail.ipynb", {}, "done.ipynb").error == ""
            outcomes.append(nbformat.read("done.ipynb", as_version=4).cells[-1].outputs[0].text.strip())
        server.settled()
        held_rightly(tmp_path, server)
    assert outcomes == ["accepted", "withheld", "accepted", "withheld"]
    assert dots(server) == Counter({1: 1, 2: 1})


def test_a_new_file_that_another_turns_to_wal_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "c.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    soon = threading.Timer(0.2, other.close)
    soon.start()
    sk.Casebook(tmp_path / "c.sqlite").note("opened")
    soon.join()
    assert sk.Casebook(tmp_path / "c.sqlite").notes().text.tolist() == ["opened"]
