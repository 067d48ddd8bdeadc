"""Every shipped notebook runs top to bottom, offline, and holds itself to what it says."""

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smtpkit.running import _awake, run_notebook, shipped

pytestmark = pytest.mark.slow

NAMES = sorted(shipped())
SCENARIOS = {"healthy": 5, "balancer": 12, "mx_dead": 5, "provider_block": 5, "stale_421": 5}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMTPKIT_STATE", str(tmp_path / "state"))


def cells(name: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(shipped()[name].read_text("utf-8"))["cells"]
    return found


def source(cell: dict[str, object]) -> str:
    return "".join(cell["source"])  # type: ignore[arg-type]  # a list of lines, by the notebook format


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name: str) -> None:
    import nbformat  # 2 s, which runs without the slow tests save

    done = run_notebook(name, {}, "done.ipynb")
    assert done.error == ""
    outputs = [o for c in nbformat.read("done.ipynb", as_version=4).cells for o in c.get("outputs", [])]
    assert any("image/png" in o.get("data", {}) or "text/html" in o.get("data", {}) for o in outputs)
    assert [o for o in outputs if o["output_type"] == "error"] == []


def test_a_reply_whose_wake_up_was_lost_is_found_all_the_same() -> None:
    polls = iter([0, 0, 1])

    class Channel:
        socket = SimpleNamespace(poll=lambda ms: answer(next(polls)))

        async def get_msg(self, timeout: float | None = None) -> str:
            return f"reply, {next(polls, 'no')} poll left"

    class Client:
        async def async_start_new_kernel_client(self) -> SimpleNamespace:
            return SimpleNamespace(shell_channel=Channel())

    async def answer(given: int) -> int:
        return given

    async def run() -> str:
        client = await _awake(Client)().async_start_new_kernel_client()
        return str(await client.shell_channel.get_msg(timeout=None))

    with ThreadPoolExecutor(1) as apart:  # where no other test has a loop running
        assert apart.submit(lambda: asyncio.run(run())).result() == "reply, no poll left"


@contextmanager
def walked(name: str, **given: object) -> Iterator[dict[str, Any]]:
    """What a notebook's code cells leave, with other parameters, run here without a kernel and its drawings."""
    names: dict[str, Any] = {}
    try:
        for cell in (c for c in cells(name) if c["cell_type"] == "code"):
            exec(re.sub(r"^sk\.plot.*", "", source(cell), flags=re.MULTILINE), names)
            names |= given if "parameters" in cell["metadata"].get("tags", []) else {}  # type: ignore[attr-defined]  # a dict
        yield names
    finally:
        if names.get("lab"):
            names["lab"].close()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_flagship_tells_other_faults_by_its_parameters_cell(scenario: str) -> None:
    with walked("01_one_stale_mx", scenario=scenario, rounds=SCENARIOS[scenario]) as left:
        found, truth = [[(c.kind, c.values) for c in which] for which in (left["found"].causes, left["lab"].truth)]
        assert found == truth


@pytest.mark.parametrize(
    ("name", "scenario"),
    [
        ("02_by_hand", "healthy"),
        ("06_sender_preflight", "healthy"),
        pytest.param("04_delisting_watch", "healthy", marks=pytest.mark.slow),
    ],
)
def test_a_notebook_holds_nothing_against_another_scenario(name: str, scenario: str) -> None:
    with walked(name, scenario=scenario) as left:
        assert left["lab"].domain == "daum.example"


LINE = "2026-11-24T09:{0:02}:00Z relay postfix/smtp[7]: 4AbC{0:04}: to=<r@x.example>, relay=x.example[{1}]:25, "


def test_a_log_of_ones_own_is_never_given_the_address_of_the_sample(tmp_path: Path) -> None:
    said = "host x.example[192.0.2.13] said: 554 5.7.1 Your IP [203.0.113.77] is blocked by our blacklist"
    bad = f"delay=1, dsn=5.7.1, status=bounced ({said} (in reply to MAIL FROM command))\n"
    ends = ["delay=1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as A)\n"] * 2 + [bad]
    text = "".join(LINE.format(n, f"192.0.2.{11 + n % 3}") + ends[n % 3] for n in range(60))
    (tmp_path / "mail.log").write_text(text)
    with walked("05_postmortem", path=str(tmp_path / "mail.log")) as left:
        assert left["verdict"].causes[0].values == ("192.0.2.13",)
        assert "From us   address not known" in str(left["letter"])


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_short_and_explained(name: str) -> None:
    for cell in cells(name):
        lines = [line for line in source(cell).splitlines() if line.strip()]
        if cell["cell_type"] == "code":
            assert 1 <= len(lines) <= 5, source(cell)
            assert not re.search(r"^\s*(def|class) ", source(cell), re.MULTILINE)
    words = sum(len(source(c).split()) for c in cells(name) if c["cell_type"] == "markdown")
    assert words > 80, "a notebook tells what is asked and what was seen"


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_title_parameters_and_a_last_assertion(name: str) -> None:
    found = cells(name)
    assert source(found[0]).startswith("# ")
    assert [c for c in found if "parameters" in c["metadata"].get("tags", [])]  # type: ignore[attr-defined]  # a dict
    last = [c for c in found if c["cell_type"] == "code"][-1]
    assert any(line.startswith("assert ") for line in source(last).splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_run_all_stays_in_the_lab(name: str) -> None:
    """No notebook opens the real world but by its parameters: each network is a lab's, or asked for by name."""
    code = "\n".join(source(c) for c in found if c["cell_type"] == "code") if (found := cells(name)) else ""
    calls = re.findall(r"sk\.(probe|send|locate|watch|preflight|whoami|lookup_mx|Dialogue)\(([^\n]*)", code)
    assert all("network" in arguments for _, arguments in calls), calls
