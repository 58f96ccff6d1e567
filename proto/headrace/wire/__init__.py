"""What client and server must agree on beyond the .proto files: datatypes, tensor bytes, frames, errors. Pure."""
