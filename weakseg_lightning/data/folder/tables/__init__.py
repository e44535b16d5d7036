"""CSV files of a folder: annotations, and the cases that images belong to."""
