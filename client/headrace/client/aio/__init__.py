"""The library for asyncio. `headrace.client` gives its public names."""
