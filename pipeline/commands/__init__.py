"""One module per command of ``truthful-rlhf``; heavy libraries are imported inside the functions."""
