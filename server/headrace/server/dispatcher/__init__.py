"""The one asyncio object between services, core and engine, and the event loop that it runs on."""
