"""What a run will do: its phases, and when each request is due. Pure."""
