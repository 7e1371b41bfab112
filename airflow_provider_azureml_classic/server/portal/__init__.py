"""The portal: pages for a browser, served beside the API.

Rooms: :mod:`.site` (routes, sign-in, CSRF, headers), :mod:`.sessions` (the cookie), :mod:`.visit` (what a view is given
and what it answers), the views ``services``, ``endpoint``, ``jobs``, ``entrance``; :mod:`.queries` and
:mod:`.job_queries` (all SQL),
:mod:`.chart` (geometry), :mod:`.rendering` (templates).

Rule 1: a view calls the core as the API does, with the rights of the workspace token.
Rule 2: no key, no token and no location with a token is on a page that was not asked for it.
Rule 3: every page works without JavaScript; the script only saves page loads.
"""
