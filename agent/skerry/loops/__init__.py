"""The three loops. None calls another; they meet only in the journal, which wakes them."""
