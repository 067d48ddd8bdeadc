"""filters: rspamd and spamd, the spam filters, on loopback, with DNS of the test's own.

Not here: name servers (dns), what is asked of them.
"""

import os
import shutil
import socket
from pathlib import Path
from typing import Self

from tests.ports import free_port
from tests.servers import daemon, end, program, root, until

OFF = "fuzzy_check url_redirector rspamd_update antivirus greylist neural reputation ratelimit"
OFF += " history_redis replies phishing dcc"
KEPT = Path("/var/tmp/smtpkit-rspamd")
"""rspamd's compiled patterns: without them each start costs 20 s."""


class Rspamd:
    """One worker of rspamd whose only resolver is 127.0.0.1 `dns`."""

    def __init__(self, at: Path, dns: int) -> None:
        self.at, self.dns, self.port, self.control = at, dns, free_port(), free_port()

    def start(self) -> Self:
        root()  # it drops to its own user
        binary = program("rspamd", "rspamd")
        local = self.at / "local.d"
        for folder in (local, self.at / "override.d", self.at / "run", self.at / "log", KEPT):
            folder.mkdir(parents=True, exist_ok=True)
        texts = {
            "options.inc": f'dns {{ nameserver = ["127.0.0.1:{self.dns}:10"]; timeout = 1s; retransmits = 1; }}\n'
            "local_addrs = [];\n",
            "worker-normal.inc": f'bind_socket = "127.0.0.1:{self.port}"; count = 1;\n',
            "worker-controller.inc": f'bind_socket = "127.0.0.1:{self.control}";\n',
            "logging.inc": 'type = "console"; level = "notice";\n',
        }
        texts |= {f"worker-{name}.inc": "enabled = false;\n" for name in ("proxy", "fuzzy")}
        texts |= {f"{name}.conf": "enabled = false;\n" for name in OFF.split()}
        for name, text in texts.items():
            (local / name).write_text(text)
        for place in (self.at, KEPT):
            shutil.chown(place, "_rspamd", "_rspamd")
            for path in place.rglob("*"):
                shutil.chown(path, "_rspamd", "_rspamd")
        places = {
            "LOCAL_CONFDIR": self.at,
            "DBDIR": KEPT,
            "RUNDIR": self.at / "run",
            "LOGDIR": self.at / "log",
        }
        run = [binary, "-f", "-u", "_rspamd", "-g", "_rspamd", "-c", "/etc/rspamd/rspamd.conf"]
        self._process = daemon(
            [*run, *(f"--var={name}={place}" for name, place in places.items())], self.at / "out"
        )
        until(lambda: listens(self.port), 60, "rspamd does not answer")
        return self

    def stop(self) -> None:
        end(self._process)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Spamd:
    """SpamAssassin's daemon without network tests, or with those that 127.0.0.1 `dns` answers."""

    def __init__(self, at: Path, dns: int | None = None) -> None:
        self.at, self.dns, self.port = at, dns, free_port()

    def start(self) -> Self:
        site = self.at / "site"
        shutil.copytree("/etc/spamassassin", site) if Path("/etc/spamassassin").is_dir() else site.mkdir(
            parents=True
        )
        if self.dns:
            (site / "zz.cf").write_text(f"dns_server 127.0.0.1:{self.dns}\ndns_available yes\nrbl_timeout 3\n")
        run = [program("spamd", "spamd"), *([] if self.dns else ["-L"]), "-x", "-i", "127.0.0.1"]
        run += ["-p", str(self.port), "-A", "127.0.0.1", "-m", "1", "--min-children=1", "--min-spare=1"]
        run += ["--max-spare=1", "-s", "stderr", f"--siteconfigpath={site}", "--cf=use_bayes 0"]
        env = os.environ | {"HOME": os.fspath(self.at)}
        self._process = daemon(run, self.at / "out", env=env)
        until(lambda: listens(self.port), 30, "spamd does not answer")
        return self

    def stop(self) -> None:
        end(self._process)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"


def listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
