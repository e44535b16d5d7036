"""`weakseg predict`: with IMAGES, any files; without, the images of the data."""
