"""Fixtures: one JupyterLab and one chromium for all browser tests, a fresh page for each."""

import os

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import sync_playwright

from tests.browser import kit


def pytest_collection_modifyitems(items):
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    if not kit.CHROMIUM:
        if os.environ.get("CI"):
            pytest.fail("no chromium: apt-get install chromium")
        pytest.skip("no chromium here (Debian: apt-get install chromium)")
    with kit.jupyterlab(tmp_path_factory.mktemp("jupyterlab")) as running:
        yield running


@pytest.fixture(scope="session")
def chromium(served):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=kit.CHROMIUM, args=kit.ARGS, headless=True)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 1100})
    yield context.new_page()
    context.close()


@pytest.fixture
def notebook(page, served):
    """Call it with cells, or with the path of a notebook: it opens, runs all, and is handed back."""

    def opened(source, run=True, tags=None):
        found = kit.open_notebook(page, served, source, tags or {})
        if run:
            found.run_all()
        return found

    return opened
