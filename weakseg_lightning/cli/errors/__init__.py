"""Errors of the command line as a user reads them."""
