"""The engine: models in OpenVINO Runtime, their slots, and the tensors that they compute.

`runtime` is the engine as the dispatcher knows it; `models` loads a model. What its graph tells is in `graph`, what is
changed in the graph in `guarding`, what is measured at load in `probing`. Only this package imports openvino, and its
modules `tensors`, `run_inputs` and `fake` do not.
"""
