"""The registry of models: what `clv.models` holds beside claims.

`records.py`: the keys and documents; `registry.py`: what follows from them (pure); `reading.py`:
reading and writing them.
"""
