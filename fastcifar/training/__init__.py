"""Optimizer, schedule, averaging, step and the loop that joins them."""
