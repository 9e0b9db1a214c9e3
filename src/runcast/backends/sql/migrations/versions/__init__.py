"""The steps, oldest first by their number. A step that was released is never edited: another one follows it."""
