"""The study of what each part is worth: ablation grid, tuning, tracking, index benchmark."""
