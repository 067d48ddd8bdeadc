"""The founding story on four real Postfix: the stale one is named, and the rows are what the logs say."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smtpkit as sk
from tests.servers import PORT, SENDER
from tests.servers.conftest import DNS_PORT, IPS, network
from tests.servers.exim import Exim
from tests.servers.nsd import Nsd
from tests.servers.opensmtpd import OpenSmtpd
from tests.servers.postfix import Fleet

NOTEBOOK = Path(__file__).parents[2] / "notebooks/01_one_stale_mx.ipynb"
STALE = 3


def take_off(fleet: Fleet, stale: int = STALE) -> None:
    """We were on all four blacklists; the receiver removes us, and one server does not hear of it."""
    for n in IPS:
        fleet.block(n)
    for n in IPS:
        if n != stale:
            fleet.delist(n)


def same_as_logs(frame: pd.DataFrame, fleet: Fleet) -> None:
    """Attempt by attempt: each connection that a server logged is one session of ours, with the same end."""
    for n, ip in IPS.items():
        logged = fleet[n].logged(SENDER)
        rows = frame[frame["mx_ip"] == ip].drop_duplicates("session").sort_values("started_at")
        assert len(rows) == len(logged) > 0, f"{ip}: {len(rows)} rows, {len(logged)} connections in the log"
        for row, line in zip(rows.to_dict("records"), logged, strict=True):
            late = line.at - row["started_at"].floor("s").to_pydatetime()
            assert 0 <= late.total_seconds() <= 1
            if line.code is None:
                assert row["outcome"] in ("passed", "accepted")
            else:
                assert row["outcome"] == "rejected"
                assert (row["code"], row["enhanced"]) == (line.code, line.enhanced)
                assert row["reply"] == f"{line.code} {line.enhanced} {line.text}"


@pytest.fixture
def run_notebook(tmp_path: Path) -> Any:
    """Run the flagship headless with this network; its attempts and its verdict."""
    import nbformat  # 2 s, which runs without these tests save
    import papermill

    def run(**parameters: Any) -> tuple[pd.DataFrame, str]:
        here = tmp_path / NOTEBOOK.name
        shutil.copy(NOTEBOOK, here)
        out = tmp_path / "done.ipynb"
        papermill.execute_notebook(here, out, parameters, cwd=tmp_path, kernel_name="python3", progress_bar=False)
        said = nbformat.read(out, as_version=4)
        texts = [
            o.get("data", {}).get("text/plain", o.get("text", "")) for c in said.cells for o in c.get("outputs", [])
        ]
        return sk.Casebook(tmp_path / "casebook.sqlite").attempts(), "\n".join(texts)

    return run


def test_the_flagship_names_the_stale_postfix(fleet: Fleet, nsd: Nsd, run_notebook: Any) -> None:
    take_off(fleet)
    reroute = [[IPS[n], 25, fleet[n].ip, PORT] for n in IPS]
    frame, said = run_notebook(
        scenario=None, polite=False, nameservers=[["127.0.0.1", DNS_PORT]], reroute=reroute, source_ip=SENDER
    )
    assert set(frame["mx_ip"]) == set(IPS.values())
    same_as_logs(frame, fleet)
    diagnosis = sk.diagnose(frame)
    (cause,) = diagnosis.causes
    assert (cause.kind, cause.dimension, cause.values) == ("mx_block", "mx_ip", (IPS[STALE],))
    assert IPS[STALE] in said
    assert diagnosis.verdict.split(".")[0] in said


@pytest.mark.parametrize("stale", [1, 2, 3, 4])
def test_each_of_the_four_is_found(stale: int, fleet: Fleet, fleet_network: Any) -> None:
    take_off(fleet, stale)
    frame = sk.probe("daum.example", network=fleet_network, rounds=5)
    same_as_logs(frame, fleet)
    (cause,) = sk.diagnose(frame).causes
    assert (cause.kind, cause.values) == ("mx_block", (IPS[stale],))


def test_nobody_is_named_when_all_is_well(fleet: Fleet, fleet_network: Any) -> None:
    frame = sk.probe("daum.example", "r@daum.example", "me@ours.example", network=fleet_network, rounds=5)
    same_as_logs(frame, fleet)
    assert set(frame["outcome"]) == {"passed"}
    assert sk.diagnose(frame).causes == ()


def test_the_row_turns_green_after_the_last_removal(fleet: Fleet, fleet_network: Any) -> None:
    take_off(fleet)
    before = sk.probe("daum.example", network=fleet_network, rounds=3)
    fleet.delist(STALE)
    after = sk.probe("daum.example", network=fleet_network, rounds=3)
    assert set(before.loc[before["mx_ip"] == IPS[STALE], "outcome"]) == {"rejected"}
    assert set(after["outcome"]) == {"passed"}
    same_as_logs(pd.concat([before, after]), fleet)


@pytest.mark.parametrize("kind", [Exim, OpenSmtpd])
@pytest.mark.parametrize("stale", [True, False], ids=["stale", "healthy"])
def test_another_mta_is_one_of_the_mx(
    kind: Any, stale: bool, fleet: Fleet, nsd: Nsd, open_folder: Path, tmp_path: Path
) -> None:
    """The third MX is an Exim or an OpenSMTPD; it is the stale one, or the second is."""
    other = kind(open_folder / "other", "127.0.0.23", "mx3.daum.example", domain="daum.example").start()
    try:
        fleet.delist(1)
        guilty = 3 if stale else 2
        other.block(SENDER) if stale else fleet.block(2)
        ips = {IPS[n]: fleet[n].ip for n in IPS} | {IPS[3]: other.ip}
        frame = sk.probe("daum.example", network=network(tmp_path, ips), rounds=5)
        (cause,) = sk.diagnose(frame).causes
        assert (cause.kind, cause.values) == ("mx_block", (IPS[guilty],))
        refused = frame[frame["outcome"] == "rejected"]
        assert set(refused["mx_ip"]) == {IPS[guilty]}
        assert set(refused["code"]) == {554}
        assert set(frame.loc[frame["mx_ip"] != IPS[guilty], "outcome"]) == {"passed"}
        assert other.log().count("blacklist") >= (5 if stale else 0)
    finally:
        other.stop()
