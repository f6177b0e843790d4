"""How hypothesis looks for examples.

On a developer's machine it looks for new ones; in CI (CI=true) it takes the same ones each time, so that a change is
judged by what it changed. What it finds becomes a test of `unit/`. Nowhere does it judge how long an example took, or
how large what it drew was: that tells of the machine and of luck. `--hypothesis-profile=few` takes a tenth of the
examples (tools/pythons).
"""

import os

from hypothesis import HealthCheck, settings

LUCK = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("here", deadline=None, suppress_health_check=LUCK)
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, print_blob=True, database=None)
settings.register_profile("few", settings.get_profile("ci"), max_examples=10)
settings.load_profile("ci" if os.environ.get("CI") else "here")
