"""For all tests: helpers that assert explain themselves as tests do."""

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

for helper in ("tests.truth", "tests.faultserver", "tests.servers", "tests.servers.postfix"):
    pytest.register_assert_rewrite(helper)

settings.register_profile("quick", max_examples=25, deadline=None, derandomize="CI" in os.environ)
settings.register_profile("seek", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure() -> None:
    """Tests that interrupt themselves: a shell's background job is started with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Tests of real servers and of a browser that are not asked for are not imported either."""
    unasked = {"servers": "not server", "browser": "not browser"}.get(collection_path.name)
    return True if unasked and unasked in config.option.markexpr else None


def pytest_collection_finish() -> None:
    """Modules and tests stay to the end: the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()
