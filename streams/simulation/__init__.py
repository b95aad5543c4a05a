"""The service in one process: its own app, pipeline and cache writer, over a simulated broker."""
