"""What one host does: plan, apply, undo, recover, and say what was done. The command line and the daemon call this."""
