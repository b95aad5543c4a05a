"""Files of orders become events: CSV, JSON Lines and Parquet."""
