"""The hands: pools carry attempts out and post how they ended. They decide nothing and know neither planner nor run."""
