"""The history as a page with plots, in the style of those of load tests."""
