"""How requests are made: one module per protocol and mode, all behind the `Caller` interface.

The modules named oip_* import the stubs of the Open Inference Protocol, whose symbols are those of tritonclient's. They
must only be imported in processes that do not import tritonclient: `connect` does so, when the protocol is needed.
"""
