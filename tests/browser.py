"""Finds a Chromium and drives it headless, offline and with an empty profile."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync"
).split()

PHONE, DESK = (390, 844), (1280, 900)

needs_chromium = pytest.mark.xdist_group("browser")


@contextmanager
def chromium():
    """A browser with a new, empty user-data folder."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None and os.environ.get("CI") != "true":
        pytest.skip("no chromium, chromium-browser or google-chrome on the PATH (with CI=true this fails)")
    assert CHROMIUM is not None, "CI=true needs a Chromium on the PATH: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def look_at(page):
    """Nothing that axe finds wrong."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()
