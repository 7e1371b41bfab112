"""The wire format, written once for both ends. No I/O, no Airflow, nothing of the server.

Reading order: :mod:`.operations` (the calls), :mod:`.messages` (the seam), :mod:`.values` and :mod:`.jobs` (what is
talked about), :mod:`.references` and :mod:`.sas` (blobs), :mod:`.tables` (scoring), :mod:`.errors`.
"""
