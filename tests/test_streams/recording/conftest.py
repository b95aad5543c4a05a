"""A small recording of real orders, with simulated support."""

import pytest

from .support import PARAMETERS, TICK, some_events, write_events


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("targets") / "a.clvrec"
    write_events(path, some_events(6), TICK, PARAMETERS, partitions=2)
    return path
