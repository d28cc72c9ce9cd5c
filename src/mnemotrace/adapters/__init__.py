"""Networks that somebody else made: their linear maps as sites, and what those maps read."""
