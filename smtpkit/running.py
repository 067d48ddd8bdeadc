"""running: a notebook run headless and saved, and JupyterLab opened with a lab up. Not here: arguments (cli)."""

import ast
import json
import os
import signal
import subprocess
import sys
from asyncio import CancelledError
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from smtpkit.catalogue import data, render
from smtpkit.errors import InvalidInput, refuse
from smtpkit.progress import Progress

_KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a notebook: the files written, and what broke a cell, if one broke, or "interrupted"."""

    files: tuple[Path, ...]
    error: str = ""


def shipped() -> dict[str, Path]:
    """The notebooks that come with smtpkit, by name."""
    return {path.stem: path for path in sorted((data().parent / "notebooks").glob("*.ipynb"))}


def find(notebook: str) -> Path:
    """The file of a notebook given by name or path; InvalidInput if there is none."""
    path, known = Path(notebook), shipped()
    if path.suffix == ".ipynb" and path.is_file():
        return path
    if notebook.removesuffix(".ipynb") in known:  # with a folder before it, it would be another one
        return known[notebook.removesuffix(".ipynb")]
    why = "is no notebook" if path.exists() else "is not there"
    raise refuse("notebook", notebook, why, f"give a file that ends in .ipynb, or one of {', '.join(known)}")


def read(path: Path) -> Any:
    """The notebook as papermill wants it; one that names no kernel gets Python's."""
    from nbformat import ValidationError
    from papermill.iorw import load_notebook_node

    try:
        notebook: Any = load_notebook_node(str(path))
    except (ValueError, ValidationError, TypeError, AttributeError) as error:
        told = isinstance(error, ValueError | ValidationError)  # the others: its JSON is no notebook's
        why = f"cannot be read: {str(error).partition(chr(10))[0][:120] if told else 'it is JSON, but no notebook'}"
        raise refuse("notebook", str(path), why, "open it in JupyterLab and save it") from error
    notebook.metadata.setdefault("kernelspec", dict(_KERNEL))
    return notebook


def values(name: str, notebook: Any, given: dict[str, str]) -> dict[str, Any]:
    """Parameters: text where the default is text, else Python where it is JSON; refuses names it lacks."""
    from IPython.core.inputtransformer2 import TransformerManager

    python: Any = TransformerManager  # makes Python of %magics
    tagged = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    try:
        nodes = [node for source in tagged for node in ast.walk(ast.parse(python().transform_cell(source)))]
    except (SyntaxError, ValueError) as error:
        why = f"cannot be read: its cell of parameters is no Python: {error}"
        raise refuse("notebook", name, why, "mend that cell") from error
    known = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    if lacking := sorted(set(given) - set(known)):
        has = ", ".join(known) or "none (no cell is tagged 'parameters')"
        raise InvalidInput(f"{name} has no parameter {lacking[0]!r}; it has {has}")
    texts = {name for node in nodes for name in _texts(node)}
    return {name: _value(text, name in texts) for name, text in given.items()}


def _texts(node: Any) -> list[str]:
    """The names to which a statement gives text."""
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return []
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    pairs: Any = [(target, node.value)]
    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
        pairs = zip(target.elts, node.value.elts, strict=False)
    return [getattr(name, "id", "") for name, given in pairs if isinstance(getattr(given, "value", None), str)]


def _value(text: str, plain: bool) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = {"True": True, "False": False, "None": None}.get(text, text)
    return text if plain and not isinstance(value, str | None) else value


def run_notebook(notebook: str, given: dict[str, str], out: str | None, *, page: bool = False) -> Done:
    """Run a notebook top to bottom in the working directory; save it, and a page if asked."""
    path = find(notebook)
    target = Path(out) if out else Path(f"{path.stem}.done.ipynb")
    if target.is_dir() or not target.parent.is_dir():
        raise refuse("out", str(target), "cannot be written", "give a file in a folder that is there")
    if target.exists() and target.samefile(path):
        raise refuse("out", str(target), "is the notebook itself", "give another name")
    if page and target.with_suffix(".html") == target:
        raise refuse("out", str(target), "is where the page goes", "end it in .ipynb; the page comes beside it")
    made = read(path)
    error = _execute(path.stem, made, target, values(path.name, made, given))
    return Done((target, _page(target)) if page else (target,), error)


def _execute(name: str, notebook: Any, target: Path, parameters: dict[str, Any]) -> str:
    import nbformat
    from nbclient import NotebookClient
    from papermill.parameterize import parameterize_notebook
    from traitlets.config import Config

    notebook = parameterize_notebook(notebook, parameters) if parameters else notebook
    cells, progress = len(notebook.cells), Progress(name, "cells")
    config = Config({"KernelManager": {"transport_encryption": "auto"}})
    client: Any = _awake(NotebookClient)(
        notebook, config=config, timeout=None, kernel_name="python3",
        resources={"metadata": {"path": str(Path.cwd())}},
        on_cell_executed=lambda cell, cell_index, **_: progress.show(cell_index + 1, cells, "running"),
    )  # fmt: skip
    try:
        client.execute(stderr=subprocess.DEVNULL)  # what cells write there is among their outputs
    except (Exception, CancelledError) as broken:
        return _told(name, client, broken)
    finally:
        write: Any = nbformat.write
        write(notebook, target)
    progress.show(cells, cells, "done", last=True)
    return ""


def _told(name: str, client: Any, broken: BaseException) -> str:
    """Why a run ended early, in a line."""
    from nbclient.exceptions import CellExecutionError

    if hasattr(client, "_async_cleanup_kernel_future"):  # Ctrl-C: nbclient has ended its kernel, and fell over that
        return "interrupted"
    if isinstance(broken, CellExecutionError):
        return f"{name}: {broken.ename}: {broken.evalue}"
    if isinstance(broken, RuntimeError):  # the kernel died
        return f"{name}: {broken}"
    raise broken


def _awake(kind: Any) -> Any:
    """An nbclient that looks for a cell's reply twice a second, not only when woken: what it sends for a widget
    meanwhile goes past asyncio (jupyter_client's Session.send) and may take the wake-up with it, 1 run in 20."""

    class Awake(kind):  # type: ignore[misc]  # nbclient is loaded only when a notebook runs
        async def async_start_new_kernel_client(self) -> Any:
            client = await super().async_start_new_kernel_client()
            channel = client.shell_channel
            plain = channel.get_msg

            async def get_msg(timeout: float | None = None) -> Any:
                while timeout is None and not await channel.socket.poll(500):
                    pass
                return await plain(timeout)

            channel.get_msg = get_msg
            return client

    return Awake


def _page(notebook: Path) -> Path:
    """The notebook as one page that asks nothing of the network."""
    from nbconvert import HTMLExporter

    made: Any = HTMLExporter
    exporter = made(**{name: "" for name in made.class_trait_names() if name.endswith("_url")})
    text, _ = exporter.from_filename(str(notebook))
    page = notebook.with_suffix(".html")
    page.write_text(text, encoding="utf-8")
    return page


def open_lab(scenario: str, port: int, *, browser: bool = True) -> int:
    """JupyterLab in the working directory; each kernel has `sk` and a lab that is up as `lab`."""
    from smtpkit.lab import Lab

    about = Lab(scenario).about  # refuses a scenario that cannot be used, before anything is started
    where = str(Path(scenario).resolve()) if Path(scenario).suffix == ".toml" else scenario
    with TemporaryDirectory(prefix="smtpkit-") as folder:
        startup = Path(folder) / "profile_default" / "startup"
        startup.mkdir(parents=True)
        code = f"import smtpkit as sk\nlab = sk.Lab({where!r}).start()\n"
        (startup / "00-smtpkit-lab.py").write_text(code, encoding="utf-8")
        notebook = Path(f"lab_{Path(scenario).stem}.ipynb")
        if not notebook.exists():
            first = render("lab.ipynb", scenario=scenario, place=repr(scenario), about=about)
            notebook.write_text(first, encoding="utf-8")
        command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.port={port}", str(notebook)]
        command += [] if browser else ["--no-browser"]
        command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # JupyterLab ends with us
        return subprocess.run(command, env=os.environ | {"IPYTHONDIR": folder}, check=False).returncode
