"""The command line: read options, make one call, show what comes back."""
