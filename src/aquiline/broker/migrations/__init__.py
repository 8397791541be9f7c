"""The database of each past version made that of the next."""
