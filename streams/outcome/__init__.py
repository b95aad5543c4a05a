"""What a service made of its events, and how two outcomes differ."""
