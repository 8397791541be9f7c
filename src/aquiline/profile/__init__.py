"""What a host should be: reading, archiving and checking its profile."""
