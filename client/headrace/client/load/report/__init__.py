"""From a run to what people and programs read of it. Nothing here runs, connects, or looks at a clock."""
