"""Speed and quality side by side with the peers; `python -m benchmarks` lists what there is."""
