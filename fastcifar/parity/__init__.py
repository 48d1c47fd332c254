"""The augmentation's backends side by side: what each does to the same pixels with the same draws."""
