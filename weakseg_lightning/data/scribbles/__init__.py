"""Scribbles: strokes, their centerlines, and their simulation from masks."""
