"""The run: joins the planner, the pools and what people see; the only place where deciding meets the world."""
