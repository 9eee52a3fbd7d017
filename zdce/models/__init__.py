"""The networks: their variants as data, the modules, scene statistics, the inference engine and the shipped weights."""
