"""From a table of patients to their risks: draws, frames, files. Light: no PyMC, ArviZ, xarray, SciPy or pandas of its own."""
