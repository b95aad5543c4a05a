"""Throughput of the worker beside an idiomatic Faust app and Quix Streams."""
