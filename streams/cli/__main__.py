"""`python -m streams.cli` is `clv`."""

from streams.cli import main

if __name__ == "__main__":
    main()
