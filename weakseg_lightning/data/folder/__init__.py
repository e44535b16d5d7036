"""A folder of one's own images with whatever annotations there are."""
