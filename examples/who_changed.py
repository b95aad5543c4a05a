"""Who changed, and why: a recording, replayed in memory and looked at cell by cell.

python examples/who_changed.py shop.clvrec EUR

Editors that know `# %%` run it as a notebook; nothing but CLV Streams is needed, and no broker.
"""

# %% 1. What was recorded
import asyncio
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import structlog

from models.economics import Economics
from streams.recording import Recording
from streams.testing import replayed, shop_settings
from streams.text import visible

RECORDING = Path(sys.argv[1])
CURRENCY = sys.argv[2]

# The log of the worker is not what we want to read here.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))

recording = Recording(RECORDING)
end = recording.verify()
for topic, count in zip(recording.head.topics, end.by_topic, strict=True):
    print(f"{visible(topic.role)}: {count:,} records")
for stamp in (end.first, end.last):
    print(datetime.fromtimestamp((stamp or 0) / 1000, UTC).date())

# %% 2. Replay it: facts by customer, the value first, then what changed, in its order
settings = shop_settings(economics=Economics(currency=CURRENCY))
facts = asyncio.run(replayed(RECORDING, settings)).facts()
refused = facts.pop("", [])
values = {name: those[0]["value"] for name, those in facts.items() if "value" in those[0]}
print(f"{len(values):,} customers, worth {sum(values.values()):,.2f} {CURRENCY}")
for letters in refused:
    print(f"refused, {letters['dead_letters']}: {letters['count']:,}")

# %% 3. From which segment to which
changes = [fact for those in facts.values() for fact in those if "change" in fact]
moves = Counter((c["change"], c["from"] or "none", c["to"]) for c in changes)
for (dimension, before, after), times in moves.most_common(10):
    print(f"{dimension}: {before} -> {after}, {times:,} times")

# %% 4. Who fell silent, the most valuable first
silent = {c["customer"]: c["as_of"] for c in changes if c["to"] == "at risk"}
for customer in sorted(silent, key=lambda name: (-values.get(name, 0), name))[:10]:
    since, value = silent[customer][:10], values.get(customer, 0)
    print(f"{visible(customer)}, worth {value:,.2f}, since {since}")

# %% 5. The story of the one who changed most often
restless = Counter(change["customer"] for change in changes).most_common(1)
for customer, times in restless:
    print(f"{visible(customer)} changed {times} times:")
    for change in facts[customer]:
        if "change" in change:
            print(f"  {change['as_of'][:10]} {change['change']}: {change['to']}")

# %% 6. The same events, had the margin been 40 %
richer = shop_settings(economics=Economics(currency=CURRENCY, margin=0.4))
others = asyncio.run(replayed(RECORDING, richer)).facts()
for name in sorted(values, key=lambda name: (-values[name], name))[:10]:
    print(f"{visible(name)}: {values[name]:,.2f} -> {others[name][0]['value']:,.2f}")
