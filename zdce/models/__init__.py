"""Networks: their variants as data, modules, scene statistics, the inference engine and the shipped weights."""
