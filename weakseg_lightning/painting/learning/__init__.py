"""Learning from the strokes while they are drawn, in a process of its own."""
