"""The shell around the core: Kafka, Redis, data sets and the command line."""
