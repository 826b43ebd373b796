"""The rows of a test's table: the system, and what stands beside it and learns nothing here."""

OWN = "MedFuse-CLIP"
RANDOM, ENTITY_ROW = "random order", "entity scores"
TFIDF, DUPLICATES, LABELS = (
    f"{name} (oracle: reads the report)" for name in ("TF-IDF of the report", "its exact text", "its statuses")
)
BESIDE = (ENTITY_ROW, RANDOM, TFIDF, DUPLICATES, LABELS)
