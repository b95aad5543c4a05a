"""What a worker's state was built on, and whether Kafka still has it."""
