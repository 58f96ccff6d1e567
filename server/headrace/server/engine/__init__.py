"""The engine: models in OpenVINO Runtime, their slots, and the tensors that come out.

Only here is openvino imported, and not by `tensors` and `fake`.
"""
