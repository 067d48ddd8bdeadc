"""The command line as people type it: what it prints, what it writes, its exit codes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from jupyter_client import BlockingKernelClient

from smtpkit.cli import main
from tests.ports import free_port

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMTPKIT_STATE", str(tmp_path / "state"))


def _nbformat() -> Any:
    """Imported when it is asked for: that takes 2 s, in each process."""
    import nbformat

    return nbformat


def notebook(path: Path, *cells: str) -> str:
    nbformat = _nbformat()
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    made.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(made, path)
    return str(path)


def test_the_demo_names_the_stale_server_and_writes_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 0
    said = capsys.readouterr().out
    assert "192.0.2.14 refused 5 of 5" in said
    page = Path("smtpkit-demo.html").read_text("utf-8")
    assert "192.0.2.14" in page
    assert "default-src 'none'; img-src data:" in page  # the page itself forbids every outside request
    assert "data:image/png;base64," in page


@pytest.mark.parametrize("command", ["demo", "probe", "preflight", "run", "lab"])
def test_help_teaches_by_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"smtpkit {command}" in capsys.readouterr().out.partition("example:")[2]


@pytest.mark.parametrize("command", [[], ["demo"], ["probe"], ["preflight"], ["run"], ["lab"]], ids=str)
def test_help_fits_into_80_columns(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    assert max(map(len, capsys.readouterr().out.split("\n"))) <= 80


WRONG = {
    "a reserved domain without name": (["probe", "not a domain"], "not a domain"),
    "a recipient without sender": (["probe", "daum.example", "--recipient", "r@daum.example"], "sender"),
    "no such notebook": (["run", "nowhere.ipynb"], "nowhere.ipynb"),
    "no such scenario": (["lab", "nonesuch"], "nonesuch"),
    "no such port": (["lab", "healthy", "--port", "99999"], "99999"),
    "a folder that cannot be made": (["demo", "--out", "/proc/nowhere"], "/proc/nowhere"),
    "a SOCKS port beyond the last": (["probe", "daum.example", "--socks", "127.0.0.1:65536"], "127.0.0.1:65536"),
    "an output beside no folder": (["run", "01_one_stale_mx", "--out", "nowhere/x.ipynb"], "nowhere/x.ipynb"),
    "a file that is no notebook": (["run", "plain.ipynb"], "plain.ipynb"),
    "a bad TLS mode": (["probe", "daum.example", "--tls", "yes"], "yes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_usage_says_what_was_wrong(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv, word = WRONG[name]
    Path("plain.ipynb").write_text("plain", "utf-8")
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert word in said
    assert "Traceback" not in said


def test_a_probe_without_any_server_is_a_row_and_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    """.example is a reserved name: no real name server is asked, the row says so."""
    assert main(["probe", "nobody.example", "--json"]) == 1
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["stage"], row["error"], row["outcome"]) == ("dns", "dns_nxdomain", "failed")


@pytest.mark.slow
def test_a_notebook_is_run_with_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    cells = "%matplotlib inline\nrounds = 1\nwhere = 'here'", "print(where, rounds + 1)"
    made = notebook(Path("walk.ipynb"), *cells)
    assert main(["run", made, "-p", "rounds", "41", "-p", "where", "there", "--html"]) == 0
    done = _nbformat().read("walk.done.ipynb", as_version=4)
    assert done.cells[-1].outputs[0].text == "there 42\n"
    page = Path("walk.done.html").read_text("utf-8")
    assert "there 42" in page
    assert "https://cdn" not in page
    assert "wrote walk.done.ipynb" in capsys.readouterr().out


def test_an_unknown_parameter_is_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    made = notebook(Path("walk.ipynb"), "rounds = 1", "open('ran', 'w').close()")
    assert main(["run", made, "-p", "round", "3"]) == 2
    assert "'round'; it has rounds" in capsys.readouterr().err
    assert not Path("ran").exists()


def test_a_broken_cell_is_told_and_the_notebook_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    made = notebook(Path("walk.ipynb"), "rounds = 1", "1 / 0")
    assert main(["run", made]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert _nbformat().read("walk.done.ipynb", as_version=4).cells[1].outputs[0].ename == "ZeroDivisionError"


def test_the_labs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("stale_blacklist ") for line in lines)


def test_the_command_itself_starts() -> None:
    done = subprocess.run([sys.executable, "-m", "smtpkit.cli", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["usage:", "smtpkit"])


@pytest.mark.slow
def test_the_lab_command_opens_jupyterlab_with_a_lab_up(tmp_path: Path) -> None:
    """A kernel that JupyterLab starts has `sk` and a running `lab`, and the first notebook lies there."""
    port = free_port()
    folders = {name: str(tmp_path / name) for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "HOME")}
    command = [sys.executable, "-m", "smtpkit.cli", "lab", "healthy", "--no-browser", "--port", str(port)]
    env = os.environ | folders | {"JUPYTER_TOKEN": "secret"}
    heard: list[dict[str, Any]] = []
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            session = json.loads(_asked(port, "/api/kernels", b"{}"))
            files = sorted((tmp_path / "JUPYTER_RUNTIME_DIR").glob(f"kernel-{session['id']}*.json"))
            client = BlockingKernelClient(connection_file=str(files[0]))
            client.load_connection_file()
            client.hb_channel.time_to_dead = 30  # seconds; importing pandas on a busy machine is silence
            client.start_channels()
            client.wait_for_ready(timeout=60)
            code = "print(len(sk.probe(lab.domain, network=lab.network, rounds=1)))"
            said = client.execute_interactive(code, timeout=60, output_hook=heard.append)
            client.stop_channels()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
    assert said["content"]["status"] == "ok"
    assert "".join(m["content"].get("text", "") for m in heard if m["msg_type"] == "stream").strip() == "4"
    cells = _nbformat().read("lab_healthy.ipynb", as_version=4).cells
    assert cells[0].source.startswith("# healthy")


def _asked(port: int, path: str, body: bytes) -> str:
    """What JupyterLab's REST interface answers, once it is up."""
    for _ in range(300):
        with contextlib.suppress(OSError):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}{path}", body, {"Authorization": "token secret"}, method="POST"
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                return str(answer.read().decode())
        time.sleep(0.2)
    raise AssertionError("JupyterLab did not come up within a minute")


def test_a_preflight_of_a_name_without_records_is_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """.example is not asked of real name servers: every check says so, and the exit code is of the worst."""
    assert main(["preflight", "nobody.example", "--json"]) in (1, 4)
    rows = list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert {"check", "subject", "status", "evidence", "advice", "source"} <= set(rows[0])
    assert main(["preflight", "nobody.example"]) in (1, 4)
    assert "spf" in capsys.readouterr().out
