"""Memories as systems: states with an energy, and one pass of the update that lowers it. Imports `core` only."""
