"""Find where a network keeps a memory."""
