"""The command line. Only here, and in use cases, are signal handlers installed."""
