"""`clv partitions grow`: more partitions for a service that has customers."""
