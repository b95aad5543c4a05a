"""The rolling aggregate of one customer: a commutative fold of events, and its summaries."""
