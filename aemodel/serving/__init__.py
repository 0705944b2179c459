"""Saved models: written, read, and scoring new cohorts."""
