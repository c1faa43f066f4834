"""Full-ranking metrics of a model and the baselines, with their statistics, on Ray."""
