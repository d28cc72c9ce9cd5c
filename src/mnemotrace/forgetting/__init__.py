"""Remove a memory."""
