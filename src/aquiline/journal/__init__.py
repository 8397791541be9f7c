"""What was done on this host, and how to take it back."""
