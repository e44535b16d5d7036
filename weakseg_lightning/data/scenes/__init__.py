"""Generated scenes: data that need no download."""
