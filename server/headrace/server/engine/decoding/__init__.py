"""JPEG and PNG files that clients send as strings become the pixels that a model takes, on threads of their own."""
