"""From a plan to the host: durable intent, effects, recovery and undo."""
