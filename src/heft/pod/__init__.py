"""What a node does in a pod beside its own work, as data in and data out.

Kubeflow tells a pod in JSON what it is to read and to write (ExecutorInput) and is answered in
JSON (ExecutorOutput). Nothing here imports TFX or kfp.
"""
