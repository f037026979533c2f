"""What is measured, compared and shown; nothing here is installed."""
