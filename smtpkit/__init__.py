"""smtpkit: find out why mail fails, per MX IP address, and prove it. A lazy table of contents (PEP 562)."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_WHERE = {
    "identity": ("whoami",),
    "mx": ("lookup_mx", "MxRoute"),
    "message": ("build_message", "Message"),
    "probing": ("probe",),
    "sending": ("send",),
    "by_hand": ("Dialogue",),
    "locating": ("locate",),
    "logs": ("read_log",),
    "tables": ("read_table",),
    "bounces": ("read_bounces",),
    "casebook": ("Casebook",),
    "reasons": ("classify", "Reason"),
    "diagnosis": ("diagnose", "Diagnosis", "Cause"),
    "comparing": ("compare",),
    "checks": ("preflight",),
    "watching": ("watch",),
    "packet": ("report",),
    "lab": ("Lab",),
    "network": ("internet",),
    "guard": ("Guard",),
    "limits": ("Pace", "Timeouts"),
    "styling": ("style", "redact"),
    "escape": ("options",),
    "catalogue": ("data",),
}
_MODULES = ("plot", "widgets", "counts", "attempts", "transcript")
_NAMES = {name: module for module, names in _WHERE.items() for name in names}
__all__ = sorted([*_NAMES, *_MODULES])


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'smtpkit' has no attribute {name!r}")
    made = import_module(f"smtpkit.{_NAMES.get(name, name)}")
    return globals().setdefault(name, getattr(made, name) if name in _NAMES else made)


def __dir__() -> list[str]:
    return __all__
