"""From a publication's folder to margins over cells and states."""
