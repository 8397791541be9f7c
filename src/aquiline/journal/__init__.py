"""What was done here, and how to take it back: state directory, journal, pre-images, undo script, check, retention."""
