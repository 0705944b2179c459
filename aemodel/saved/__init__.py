"""Saved models: written whole, read back after their digests."""
