"""For all tests: helpers that assert explain themselves as tests do."""

import os
import signal

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
