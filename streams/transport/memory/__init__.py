"""A simulated broker under Faust: logs, a consumer group and the driver, in this process."""
