"""The report as an HTML page with plots, complete in one file."""
