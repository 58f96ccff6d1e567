"""The report as text in a terminal or a log. Pure."""
