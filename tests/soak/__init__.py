"""The long tests: what holds for seconds must hold for hours, and after everything that clients do wrong."""
