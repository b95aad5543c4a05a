"""Before a worker joins its group, and before topics are created: is the state still there?"""

from __future__ import annotations

from streams.basis.examine import any_basis, judge_topics, standing, without_state
from streams.basis.findings import BasisLost
from streams.basis.logs import Logs, patiently
from streams.settings import Settings


async def check_start(settings: Settings, logs: Logs) -> bool:
    """Compare what the group has stored with what is at the broker; creates nothing.

    Returns whether the state says what it was built on: then every partition does.

    Raises
    ------
    BasisLost
        when something is lost or changed that no worker can go on without.
    KafkaError
        when the broker does not answer.
    """
    here = await patiently(lambda: standing(settings, logs))
    if (gone := without_state(settings, here)) is not None:
        raise BasisLost([gone])
    basis = await patiently(lambda: any_basis(settings, logs, here))
    if basis is None:
        return False
    if found := judge_topics(settings, here, basis):
        raise BasisLost(found)
    return True
