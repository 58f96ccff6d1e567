"""What files of configuration say: one of TOML, Triton's config.pbtxt, and OpenVINO Model Server's config.json.

All of them become options as `[models.NAME]` of the TOML file has them, each with the place where it was given.
"""
