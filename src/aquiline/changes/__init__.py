"""What can be done to a host, as data and in words; `perform` alone does it."""
