"""Change what a network remembers: carry traces between networks, write edited networks down."""
