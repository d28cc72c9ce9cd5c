"""Statistics of what a network's maps read: second moments that add up."""
