"""The configs that ship: one commented YAML per question."""
