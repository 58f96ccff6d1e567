"""What runs have measured, a line of JSON for each."""
