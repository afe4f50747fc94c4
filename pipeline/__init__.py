"""The stages that join the parts: command line, generation, policy training, evaluation and report."""
