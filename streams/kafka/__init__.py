"""Kafka's clients: connect, read a slice of a log, write batches, administer topics and groups.

Beside `streams.transport`, the driver under Faust, it is the only package that imports aiokafka.
"""
