"""Hypothesis profiles: `dev` is quick, `ci` looks longer. HYPOTHESIS_PROFILE chooses; CI chooses `ci`."""

import os

from hypothesis import HealthCheck, settings

QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much]

settings.register_profile("dev", max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=QUIET)
settings.register_profile(
    "ci", max_examples=1_000, stateful_step_count=60, deadline=None, print_blob=True, suppress_health_check=QUIET
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))
