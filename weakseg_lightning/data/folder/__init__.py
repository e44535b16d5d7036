"""A folder of images with whatever annotations there are."""
