"""The health of a worker, its lag, and the watchdogs that end it when it stands still.

`observer.py` gathers observations from the running app; `assess.py` judges them; `report.py` makes
the document of /health; `server.py` answers over HTTP; `watchdog.py` ends the process.
"""
