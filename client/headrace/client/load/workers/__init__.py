"""The processes of a load test: what is sent on time must not wait for a screen to be drawn."""
