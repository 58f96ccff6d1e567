"""What is loaded: models and their versions, from the first look at the disk to the last unload.

`lifecycle` decides and acts, on the event loop; `managed` is what it knows of each model; `threads` is where files are
read.
"""
