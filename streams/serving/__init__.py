"""`clv serve`: a read-only HTTP API over what Redis and Kafka hold.

`api.py`: the routes; `scores.py`: what Redis holds of customers; `changes.py`: segment changes as
they are published; `cursors.py`: places in lists and in topics; `tokens.py`: who may read;
`problems.py`: errors; `server.py`: the HTTP server.
"""
