"""Credentials of this process, which Ray Tune would copy into what all may read."""

from collections.abc import Iterator
from contextlib import contextmanager

_PREFIX = "AWS_"


@contextmanager
def credentials_kept() -> Iterator[None]:
    """Inside, Ray Tune gives trials no AWS credentials in the description of their environment.

    It would copy them from this process, and Ray writes that description into a log which every
    user of the machine may read, and onto the dashboard. Processes of a Ray that is started here
    inherit them; on a cluster workers have the credentials of their machines, as those of a
    training do.
    """
    from ray.tune.execution import class_cache

    before = class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = {n for n in before if not n.startswith(_PREFIX)}
    try:
        yield
    finally:
        class_cache.ENV_VARS_TO_PROPAGATE = before
