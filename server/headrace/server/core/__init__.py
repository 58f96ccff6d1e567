"""The rules of the stream, pure: events and the time go in, decisions come out. No I/O, no threads, no clock."""
