"""OpenVINO Model Server's config.json: what it says becomes options of Headrace, or an error that names the key."""
