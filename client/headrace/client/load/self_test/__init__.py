"""`headrace load --self-test`: what a request costs this client, so that its users know the tool's limit."""
