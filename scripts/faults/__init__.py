"""Faults put into trainings on purpose, each with its control run without it: `python -m scripts.faults.kills`.

kills, damage, layouts, disk, configs, steady, hosts, records and recaption; docs/reliability.md says what each showed.
"""
