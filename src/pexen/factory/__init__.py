"""Where tasks come from: modules, folders, whole trees; and which of them are wanted."""
