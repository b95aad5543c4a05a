"""The fitter: one process that keeps the parameters current.

`customers.py` follows the service's changelog; `due.py` says when to refit (pure); `fitter.py`
refits, judges and publishes; `publishing.py` puts parameters in force.
"""
