"""Predictions over a split and the figures made from them."""
