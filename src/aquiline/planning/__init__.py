"""From a profile to a plan: components run on a host that remembers what would be written."""
