"""The decision library: snapshot in, plan with reasons out. No clock, no I/O, no logging."""
