"""Metrics for Prometheus: what there is to measure, how it is counted, and how it is told."""
