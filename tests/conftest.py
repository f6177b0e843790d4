"""Hypothesis looks for new examples on a developer's machine; in CI (CI=true) it takes the same ones each time, so that
a change is judged by what it changed. What it finds becomes a test of `unit/`."""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
