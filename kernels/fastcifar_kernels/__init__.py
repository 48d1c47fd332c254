"""Fused operators for fastcifar. It imports torch, never fastcifar; importing it loads nothing yet."""
