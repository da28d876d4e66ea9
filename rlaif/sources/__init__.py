"""Pictures as their source gives them: loaded, checked, and assigned to a split."""
