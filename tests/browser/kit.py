"""kit: a private JupyterLab and the system's chromium, so that a test can click, type, stop and read.

Nothing of the user's is read or written: home, settings and kernels lie in a temporary folder. No page may
ask anybody but loopback.
"""

import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.ports import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
FOLDERS = {
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "IPYTHONDIR": "ipython",
    "MPLCONFIGDIR": "matplotlib",
    "XDG_STATE_HOME": "state",
    "XDG_CACHE_HOME": "cache",
}
DONE = """() => {
  const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")].map(p => p.textContent);
  return /[0-9]/.test(prompts[0]) && !prompts.includes("[*]:");
}"""  # the promise of run-all never ends if the page is busy: the prompts tell
ERRORS = """() => window.jupyterapp.shell.currentWidget.content.widgets.flatMap(cell =>
  (cell.model.outputs?.toJSON() || []).filter(o => o.output_type === "error").map(o => o.ename + ": " + o.evalue)
)"""
_count = itertools.count()


@dataclass
class Served:
    """A running JupyterLab: where it is, and the folder it serves."""

    port: int
    token: str
    root: Path

    def ask(self, path: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/{path}?token={self.token}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)

    def kernel(self, name: str) -> str | None:
        """The state of the kernel of notebook `name`; the page's own indicator says "idle" too early."""
        for session in self.ask("api/sessions"):
            if session["path"] == name and session["kernel"]:
                return str(session["kernel"]["execution_state"])
        return None


def _environment(home: Path) -> dict[str, str]:
    settings = {
        "apputils-extension/notification": {
            "fetchNews": "false",
            "checkForUpdates": False,
            "doNotDisturbMode": True,
        },
        "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight are on the page, too
    }
    for name, values in settings.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    repository = Path(__file__).parents[2]
    path = os.pathsep.join([str(repository), *filter(None, [os.environ.get("PYTHONPATH")])])
    private = {name: str(home / folder) for name, folder in FOLDERS.items()}
    return os.environ | private | {"HOME": str(home), "PYTHONPATH": path, "SMTPKIT_NO_SEND": ""}


@contextlib.contextmanager
def jupyterlab(folder: Path) -> Iterator[Served]:
    """Serve `folder / "root"` to the end of the block; what the server says lies in `folder / "lab.log"`."""
    served = Served(free_port(), secrets.token_hex(16), folder / "root")
    served.root.mkdir()
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "lab",
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
    ]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={served.port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={served.token}", f"--ServerApp.root_dir={served.root}"]
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=_environment(folder / "home"), start_new_session=True
        )
        try:
            _wait(lambda: _up(served, server, folder), 90, "JupyterLab to answer")
            yield served
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(15)
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait(15)


def _up(served: Served, server: "subprocess.Popen[bytes]", folder: Path) -> bool:
    if server.poll() is not None:
        raise RuntimeError(f"JupyterLab ended:\n{(folder / 'lab.log').read_text()[-3000:]}")
    try:
        return bool(served.ask("api/status"))
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _wait(true: Any, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.1)


@dataclass
class Notebook:
    """An open notebook in a page of its own."""

    page: Page
    served: Served
    name: str
    cells: int
    raising: int = 0
    asked: list[str] = field(default_factory=list)

    def run_all(self, seconds: float = 120) -> None:
        """Run all cells and wait for the last one to end; a cell that raises fails the test at once."""
        self.page.evaluate("() => { void window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        self.page.wait_for_function(DONE, timeout=1000 * seconds)
        errors = self.page.evaluate(ERRORS)
        assert len(errors) == self.raising, errors

    def output(self, cell: int) -> Any:
        """The output area of code cell number `cell`, from 0."""
        return self.page.locator(".jp-CodeCell").nth(cell).locator(".jp-OutputArea-output").first

    def theme(self, dark: bool) -> None:
        name = "JupyterLab Dark" if dark else "JupyterLab Light"
        self.page.evaluate(
            "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name
        )
        flag = "false" if dark else "true"
        self.page.wait_for_selector(f"body[data-jp-theme-light='{flag}']", state="attached", timeout=30_000)

    def outside(self) -> list[str]:
        """What the page asked of anybody but this server."""
        ours = (
            f"http://127.0.0.1:{self.served.port}/",
            f"ws://127.0.0.1:{self.served.port}/",
            "data:",
            "blob:",
        )
        return [url for url in self.asked if not url.startswith(ours)]


def open_notebook(
    page: Page, served: Served, source: Path | Sequence[str], tags: dict[int, list[str]] | None = None
) -> Notebook:
    """Open a copy of a notebook file, or these cells: own file, own kernel, prompts from [1]."""
    import nbformat  # 2 s, which runs without these tests save

    name = f"t{next(_count)}.ipynb"
    if isinstance(source, Path):
        made = nbformat.read(source, as_version=4)
    else:
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in source])
        for number, words in (tags or {}).items():
            made.cells[number].metadata["tags"] = words
        made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(made, served.root / name)
    code = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in made.cells)
    notebook = Notebook(page, served, name, code, raising=len(tags or {}))
    page.on("request", lambda request: notebook.asked.append(request.url))
    page.goto(f"http://127.0.0.1:{served.port}/doc/tree/{name}?token={served.token}")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90_000)
    _wait(lambda: served.kernel(name) == "idle", 90, f"the kernel of {name}")
    return notebook
