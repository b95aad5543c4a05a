"""The names of a cache's keys."""

import re

_GLOB = re.compile(r"([\\*?\[\]^-])")


class CacheKeys:
    """The keys of one cache; all begin with `prefix` and a colon."""

    def __init__(self, prefix: str) -> None:
        if not prefix:
            raise ValueError("the cache needs a key prefix that is not empty, such as 'clv'")
        self.prefix = prefix
        self.ranking = f"{prefix}:ranking"
        self.marks = f"{prefix}:marks"
        self.times = f"{prefix}:times"
        self.owner = f"{prefix}:owner"
        self.whole = f"{prefix}:whole"
        self.clearing = f"{prefix}:clearing"
        self.repairing = f"{prefix}:repairing"
        self.repair = f"{prefix}:repair"
        self.customers = self.customer("").encode()
        self.pattern = _GLOB.sub(r"\\\1", prefix) + ":*"
        self.customer_pattern = _GLOB.sub(r"\\\1", prefix) + ":customer:*"
        self.segment_pattern = _GLOB.sub(r"\\\1", prefix) + ":segment:*"
        self._families = tuple(
            f"{prefix}:{family}:".encode()
            for family in ("customer", "segment", "totals", "forgotten", "repair")
        )
        single = (self.ranking, self.marks, self.times, self.whole, f"{prefix}:forgotten")
        self._single = tuple(each.encode() for each in single)
        self._derived = tuple(f"{prefix}:{family}:".encode() for family in ("segment", "totals"))

    def customer(self, customer_id: str) -> str:
        """Return the key of a customer's hash."""
        return f"{self.prefix}:customer:{customer_id}"

    def segment(self, dimension: str, segment: str) -> str:
        """Return the key of the set of a segment's members."""
        return f"{self.prefix}:segment:{dimension}:{segment}"

    def totals(self, dimension: str) -> str:
        """Return the key of the hash of a dimension's totals."""
        return f"{self.prefix}:totals:{dimension}"

    def owns_data(self, key: bytes) -> bool:
        """Return whether a key that matched `pattern` holds this cache's data."""
        return key in self._single or key.startswith(self._families)

    def is_derived(self, key: bytes) -> bool:
        """Return whether a key is derived from the customers: members or totals."""
        return key.startswith(self._derived)
