"""The erasure key: whether there is one, and whether it is the one of the state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from models.aggregate.record import erasure_fingerprint, knows_key
from streams.cli.checks.check import Check
from streams.settings import MAKE_ERASURE_KEY, Settings

NAME = "erasure key"


def erasure_key(settings: Settings) -> Iterator[Check]:
    """Check that a key is configured."""
    if settings.erasure_key is None:
        advice = (
            "set CLV_ERASURE_KEY, the same for all workers and for ever; make one by: "
            f"{MAKE_ERASURE_KEY}"
        )
        yield Check(NAME, "fail", "none is configured; no worker starts without", advice)


def key_of_state(settings: Settings, held: Mapping[int, bytes]) -> Iterator[Check]:
    """Compare the key with the fingerprints of keys that partitions hold."""
    if settings.erasure_key is None:
        return
    secret = settings.erasure_secret
    others = sorted(n for n, data in held.items() if not knows_key(data, secret))
    former = sorted(n for n, data in held.items() if data != erasure_fingerprint(secret))
    if others:
        yield Check(
            NAME,
            "fail",
            "not the one that the state was built with, in partitions "
            + ", ".join(map(str, others)),
            "set the former CLV_ERASURE_KEY: workers stop, since late events would bring erased "
            "customers back",
        )
    elif former:
        yield Check(
            NAME,
            "warn",
            f"set, and a former version wrote partitions {', '.join(map(str, former))}",
            "start a worker: it keys what that version remembered of erased customers without one",
        )
    elif held:
        yield Check(NAME, "ok", "set, and the one that the state was built with")
    else:
        yield Check(NAME, "ok", "set; nothing is found of what the state was built with")
