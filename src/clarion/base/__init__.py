"""Values every layer shares: addresses, range sets, errors, limits and durations. Pure."""
