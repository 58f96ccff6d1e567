"""Turns runs into figures, and figures into text, JSON and pages. Pure, but for the page, which reads its own files."""
