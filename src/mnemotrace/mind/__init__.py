"""Whole memory systems: one mind out of the parts, with lesions."""
