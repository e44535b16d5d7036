"""Image files of every depth, as pixels."""
