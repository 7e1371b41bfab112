"""The service, self-hosted: trains scikit-learn models, serves endpoints, speaks the wire format of the cloud service.

Rooms: :mod:`.asgi` (bytes in and out), :mod:`.app` (match, authorize, decode, one call of the core, encode),
:mod:`.workspace`, :mod:`.updates`, :mod:`.jobs`, :mod:`.runner` (the rules, no HTTP), :mod:`.store` (what survives
a crash), :mod:`.blobs` and :mod:`.locations` (files), :mod:`.models` (what is loaded), :mod:`.experiments` (train and
score).
"""
