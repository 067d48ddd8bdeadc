"""cli: the command line: demo, probe, preflight, run, lab.

Belongs here: what each command calls and prints, exit codes. Not here: its words (data/commands.toml), what is done
(probing, diagnosis, checks, running).
"""

import argparse
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smtpkit import escape
from smtpkit.catalogue import data
from smtpkit.errors import SmtpkitError, quantity, refuse

EXIT = {"pass": 0, "warn": 3, "unknown": 4, "fail": 1}
"""Exit codes of `preflight` by its status, the worst last."""


def _parser() -> argparse.ArgumentParser:
    said: dict[str, Any] = tomllib.loads(data("commands.toml").read_text("utf-8"))
    text = argparse.RawDescriptionHelpFormatter
    about = {"description": said["about"], "epilog": said["codes"]}
    parser = argparse.ArgumentParser("smtpkit", formatter_class=text, **about)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, one in said["commands"].items():
        how = {"help": one["about"], "description": one["about"], "formatter_class": text}
        made = commands.add_parser(name, epilog=f"example:\n  {one['example']}", **how)
        for option, more in one["options"].items():
            told: Any = {name: tuple(v) if isinstance(v, list) else v for name, v in more.items()}
            made.add_argument(option, **told | ({"type": int} if isinstance(more.get("default"), int) else {}))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code (0 well, 1 refused or failed, 2 wrong usage, 130 interrupted).

    >>> main(["demo", "--help"])
    Traceback (most recent call last):
    SystemExit: 0
    """
    asked = _parser().parse_args(argv)
    try:
        return _DO[asked.command](asked)
    except BrokenPipeError:  # whoever reads our output has gone, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (SmtpkitError, OSError) as error:
        print(f"smtpkit: {escape.one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("smtpkit: interrupted", file=sys.stderr)
        return 130


def _demo(asked: argparse.Namespace) -> int:
    import smtpkit as sk

    if Path(asked.out).exists() and not Path(asked.out).is_dir():
        raise refuse("out", asked.out, "is no folder", "give a folder for the report, or leave --out out")
    print("A lab on loopback: daum.example has 4 MX servers; one of them still keeps an old blacklist.")
    with sk.Lab("stale_blacklist") as lab:
        frame = sk.probe(lab.domain, lab.recipient, lab.sender, network=lab.network)
        if frame.attrs["smtpkit"]["stopped"]:
            raise KeyboardInterrupt
        found = sk.diagnose(frame)
        packet = sk.report(found, Path(asked.out) / "smtpkit-demo.html")
    print(found)
    print(f"report: {', '.join(str(path.resolve()) for path in packet.files)}")
    said = {(cause.kind, cause.values) for cause in found.causes if cause.confidence >= 0.8}
    return 0 if said == {(cause.kind, cause.values) for cause in lab.truth} else 1


def _probe(asked: argparse.Namespace) -> int:
    import smtpkit as sk
    from smtpkit.attempts import json_lines

    where = {"source_ip": asked.source_ip, "casebook": asked.casebook, "socks": asked.socks}
    network = sk.internet(nameservers=asked.nameserver or (), **where)
    how = {"network": network, "rounds": asked.rounds, "tls": asked.tls, "helo": asked.helo}
    run = sk.probe(asked.domain, asked.recipient, asked.sender, background=True, **how)
    frame = run.wait()
    if asked.json:
        sys.stdout.write(json_lines(frame))
    else:
        print(sk.diagnose(frame))
    if run.stopped:
        cut = int(frame["error"].eq("stopped").sum())
        print(f"smtpkit: interrupted: {run.done - cut} of {run.total} sessions", file=sys.stderr)
        return 130
    return 0 if len(frame) and frame["outcome"].isin(["passed", "accepted"]).all() else 1


def _run(asked: argparse.Namespace) -> int:
    from smtpkit.running import run_notebook

    done = run_notebook(asked.notebook, dict(asked.parameters or ()), asked.out, page=asked.html)
    print("\n".join(f"wrote {path}" for path in done.files))
    if done.error:
        print(f"smtpkit: {escape.visible(done.error)}", file=sys.stderr)
    return 130 if done.error == "interrupted" else 1 if done.error else 0


def _lab(asked: argparse.Namespace) -> int:
    from smtpkit.lab import Lab, names
    from smtpkit.running import open_lab

    if asked.scenario is None:
        print("\n".join(f"{name:20} {escape.visible(Lab(name).about)}" for name in names()))
        return 0
    port = quantity("--port", asked.port, 1, 65535, whole=True)
    return open_lab(asked.scenario, port, browser=not asked.no_browser)


def _preflight(asked: argparse.Namespace) -> int:
    from smtpkit import checks
    from smtpkit.attempts import json_lines

    given = {"ip": asked.ip, "helo": asked.helo, "selector": asked.selector, "mail_from": asked.mail_from}
    found = checks.preflight(asked.domain, **given)
    if asked.json:
        sys.stdout.write(json_lines(found))
    else:
        for row in found.itertuples():
            advice = f"\n{'':9}-> {row.advice} [{row.source}]" if row.advice else ""
            print(escape.visible(f"{row.status:8} {row.check}: {row.subject}: {row.evidence}{advice}"))
        print(found.status.value_counts().to_string(header=False))
    counted = found[(found.check != "rule") & ~found.evidence.str.startswith("not asked")]
    return EXIT[max(counted.status, key=[*EXIT].index)]


_DO = {"demo": _demo, "probe": _probe, "preflight": _preflight, "run": _run, "lab": _lab}


if __name__ == "__main__":
    sys.exit(main())
