"""Traces of batches, for OpenTelemetry; off unless an address is configured."""
