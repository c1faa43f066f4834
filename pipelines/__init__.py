"""The Ray layer: one file per stage, each `run_<stage>(config) -> <Stage>Result`."""
