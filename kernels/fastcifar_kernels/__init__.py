"""Fused operators for fastcifar. It imports torch, never fastcifar; each operator registers itself when imported."""
