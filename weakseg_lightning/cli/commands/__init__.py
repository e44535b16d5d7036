"""The commands besides training and evaluation."""
