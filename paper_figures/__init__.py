"""Figures, tables and the report: rows in, pictures and one HTML page out.

Drawing only. Every number shown was computed by `analysis` or collected by `experiments`; nothing here averages,
fits or tests, and nothing here needs torch. A cell of the grid that has no row is listed, never filled in.

    analysis/results/<scale>/*.jsonl  +  experiments/results/<scale>/runs.jsonl
        --> fig1 ... fig6, tables.md, report.html
"""
