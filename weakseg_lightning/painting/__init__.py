"""The page on which users annotate their own images: `weakseg paint`."""
