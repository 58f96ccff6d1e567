"""The limits that Headrace is compared with: the transport alone, and the runtime alone."""
