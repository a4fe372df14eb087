"""FRR's configuration as values: rendering, reading back, and the way from one to another."""
