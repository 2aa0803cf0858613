"""Tests of writing captions."""
