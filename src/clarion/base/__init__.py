"""Values every layer shares: addresses, range sets, errors, limits, and the ports that edge implements.

Pure.
"""
