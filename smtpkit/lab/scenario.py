"""scenario: a scenario file (TOML) becomes checked values.

Belongs here: finding, reading and checking. The keys, their defaults and what their values must look like are
data/scenario_keys.toml; data/scenarios/README.md explains them to people. Not here: what a rule does (rules).
"""

import fnmatch
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from smtpkit.catalogue import data
from smtpkit.errors import InvalidInput, path_of

CONTROL = "control.example"
"""A second, healthy receiver in every lab: whoami needs one before anybody is blamed."""
_CONTROL_MX = {"name": f"mx.{CONTROL}", "ips": ["203.0.113.25", "2001:db8:c::25"], "domains": [CONTROL]}
_TABLES = ("mx", "rule", "dnsbl", "truth")
_KEYS: dict[str, Any] = tomllib.loads(data("scenario_keys.toml").read_text("utf-8"))
documentation = re.compile(next(one["text"] for one in _KEYS["check"] if "ips" in one["keys"])).fullmatch
"""Is this one of the addresses that only documents and labs use (RFC 5737, RFC 3849)?"""


def names() -> list[str]:
    """The scenarios that come with the kit."""
    return sorted(path.stem for path in data("scenarios").glob("*.toml"))


def load(scenario: str | Path | Mapping[str, Any], **instead: Any) -> SimpleNamespace:
    """A scenario by its name, by the path of a TOML file, or as a mapping; all of it checked.

    `instead`: values, other than None, in the place of the scenario's. Raises InvalidInput that names file,
    table, key and value.
    """
    instead = {key: value for key, value in instead.items() if value is not None}
    if isinstance(scenario, Mapping):
        return _whole({**scenario, **instead}, "scenario")
    path = path_of("scenario", scenario)
    if path.suffix != ".toml":
        if str(scenario) not in names():
            own = "for one of your own give the path of its .toml file"
            raise InvalidInput(f"no scenario {str(scenario)!r}; there are: {', '.join(names())}; {own}")
        path = data("scenarios") / f"{scenario}.toml"
    try:
        raw = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise InvalidInput(f"scenario {str(path)!r} cannot be read: {error}") from error
    return _whole(raw | instead, path.name)


def _whole(raw: dict[str, Any], where: str) -> SimpleNamespace:
    lab, usual = _fill("scenario", raw, where), _KEYS["texts"]
    if not any(CONTROL in row.get("domains", ()) for row in lab.mx):
        lab.mx += (_CONTROL_MX | {"texts": usual},)
    for kind in _TABLES:
        rows = enumerate(getattr(lab, kind), 1)
        setattr(lab, kind, [_fill(kind, row, f"{where}, [[{kind}]] {n}") for n, row in rows])
    lab.zone = {name: _zone(name, table, f'{where}, [zone."{name}"]') for name, table in lab.zone.items()}
    lab.domains = tuple(map(str.lower, (lab.domain, *lab.domains)))
    lab.recipients = lab.recipients or (f"r@{lab.domain}",)
    for mx in lab.mx:
        mx.texts, mx.domains = usual | lab.texts | mx.texts, mx.domains or lab.domains
    here = {"ip": [ip for mx in lab.mx for ip in mx.ips]}
    here["host"] = [name.lower() for mx in lab.mx for name in mx.backends or [mx.name]]
    for n, rule in enumerate(lab.rule, 1):
        for key, pattern in [(name, one) for name in here for one in getattr(rule, name)]:
            if not fnmatch.filter(here[key], pattern.lower()):
                why = f"is no server's; there are: {', '.join(here[key])}"
                raise _bad(f"{where}, [[rule]] {n}", key, pattern, why)
    return lab


def _zone(name: str, table: Any, where: str) -> dict[str, tuple[str, ...]]:
    return {kind: _value(kind, values, [], where) for kind, values in _value(name, table, {}, where).items()}


def _fill(kind: str, table: dict[str, Any], where: str) -> SimpleNamespace:
    """`table` with the defaults of its kind; every key and value checked."""
    known = _KEYS[kind]
    if odd := sorted(set(table) - set(known)):
        raise _bad(where, odd[0], table[odd[0]], f"is no key here; there are: {', '.join(known)}")
    return SimpleNamespace(**{key: _value(key, (known | table)[key], known[key], where) for key in known})


def _value(key: str, value: Any, default: Any, where: str) -> Any:
    """`value` in the type of its default; it and, of a list, each of its texts checked."""
    if isinstance(default, list):
        value, one = tuple(value) if isinstance(value, list) else (value,), dict if key in _TABLES else str
        if not all(isinstance(text, one) for text in value):
            raise _bad(where, key, value, f"is not a list of {'strings' if one is str else 'tables'}")
    elif isinstance(default, float) and type(value) is int:
        value = float(value)
    elif type(value) is not type(default):
        raise _bad(where, key, value, f"is not of type {type(default).__name__}")
    if key == "texts":
        _fill(key, value, where)
    for text in (value or ("",)) if isinstance(value, tuple) else (value,):
        for check in _KEYS["check"]:
            if key in check["keys"] and not re.fullmatch(check["text"], str(text)):
                choices = f"is none of: {', '.join(filter(None, check['text'].split('|')))}"
                raise _bad(where, key, text, check.get("says", choices) if text != "" else "is missing")
    return value


def _bad(where: str, key: str, value: Any, why: str) -> InvalidInput:
    return InvalidInput(f"{where}: key {key!r}: {value!r} {why}")
