"""The rolling aggregate of one customer: a commutative fold of events, and what it says."""
