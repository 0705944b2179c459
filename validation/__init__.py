"""Experiments that could show the model wrong: simulation-based calibration, withheld margins, recovery."""
