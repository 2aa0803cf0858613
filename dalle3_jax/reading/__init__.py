"""Readers of pictures: the scene reader, trained on the embedded dataset, and an OCR for drawn words."""
