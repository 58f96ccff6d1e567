"""Measures what a request costs this client: `headrace load --self-test` tells users the limits of the tool."""
