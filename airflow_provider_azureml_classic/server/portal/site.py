"""The portal as an ASGI application: routes, sign-in, CSRF, limits and headers. Views run in threads."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from anyio import to_thread
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from airflow_provider_azureml_classic.exceptions import (
    AccessDenied,
    AzureMLClassicError,
    RequestRejected,
    rejection,
)
from airflow_provider_azureml_classic.protocol.limits import MAX_FIELDS
from airflow_provider_azureml_classic.protocol.operations import PORTAL, SCORE, Operation
from airflow_provider_azureml_classic.server.blobs.disk import as_unavailable
from airflow_provider_azureml_classic.server.portal import (
    audit,
    customer,
    endpoint,
    entrance,
    jobs,
    retrain,
    score_file,
    services,
)
from airflow_provider_azureml_classic.server.portal.rendering import STATIC, render, static, static_url
from airflow_provider_azureml_classic.server.portal.sessions import (
    COOKIE,
    LIFE,
    OWNER,
    READER,
    Brake,
    Session,
    Sessions,
)
from airflow_provider_azureml_classic.server.portal.visit import Core, Go, Page, Visit
from airflow_provider_azureml_classic.server.state.ended_sessions import EndedSessions
from airflow_provider_azureml_classic.server.workspace.audit import OWNER as OWNER_NAME
from airflow_provider_azureml_classic.server.workspace.customers import Customer

log = logging.getLogger(__name__)

#: Largest form of somebody who is not signed in, largest form, and largest form with a file, in bytes.
MAX_GUEST, MAX_FORM, MAX_UPLOAD = 8 << 10, 1 << 20, 1 << 30
#: The pages have one script, one style sheet and one picture, all their own.
SECURITY = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_PRIVATE = {"cache-control": "no-store"}

View = Callable[[Visit], Page | Go | Response]
#: Path below the root, method, view.
ROUTES: Sequence[tuple[str, str, View]] = (
    *services.ROUTES,
    *endpoint.ROUTES,
    *retrain.ROUTES,
    *score_file.ROUTES,
    *jobs.ROUTES,
    *audit.ROUTES,
)
#: Forms that change nothing; all others leave an entry in the audit list.
READING_FORMS: frozenset[View] = frozenset(
    {endpoint.score, customer.scored, score_file.score_file, customer.score_file}
)
#: Fields of forms that an entry of the audit list repeats.
TOLD = ("name", "key", "number")
#: Besides forms: what holds models and rows, which the read-only token does not open elsewhere.
NOT_FOR_READERS: frozenset[View] = frozenset({jobs.output})


@dataclass(frozen=True)
class Guest:
    """Who asks: the session of the browser, when it began, and whose key was presented."""

    session: Session
    since: int | None
    customer: Customer | None = None


class Portal:
    """The pages.

    :param core: the service behind them.
    """

    def __init__(self, core: Core) -> None:
        settings = core.settings
        self._core = core
        self._prefix = urlsplit(settings.public_url).path
        self._secure = settings.public_url.startswith("https:")
        self._sessions = Sessions(settings, core.clock, EndedSessions(core.database))
        self._brake = Brake(core.clock)
        self._code = entrance.Code(settings.sign_in_code, core.clock())
        routes = [
            Route(f"{PORTAL}{path}", self._handler(view, method), methods=[method]) for path, method, view in ROUTES
        ]
        routes += [
            Route(f"{PORTAL}{path}", self._handler(view, method, operation), methods=[method])
            for path, method, view, operation in customer.ROUTES
        ]
        routes += [
            Route("/", self._home),
            Route(PORTAL, self._home),
            Route(f"{PORTAL}/sign-in", self._sign_in, methods=["GET", "POST"]),
            Route(f"{PORTAL}/sign-in/{{code}}", self._sign_in_once, methods=["GET"]),
            Route(f"{PORTAL}/sign-out", self._sign_out, methods=["POST"]),
            Route(f"{PORTAL}/static/{{name}}", self._static),
        ]
        self._router = Router(routes, default=self._nothing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                given = {**SECURITY, **_PRIVATE}
                extra = [(name.encode(), text.encode()) for name, text in given.items() if name.encode() not in there]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        await self._router({**scope, "root_path": ""}, receive, secured)

    # -- who asks ----------------------------------------------------------------------------------------------------

    def guest(self, request: Request) -> Guest:
        """The session of a request; a new one, not signed in, where the cookie is none of ours."""
        found = self._sessions.opened(request.cookies.get(COOKIE))
        return Guest(*found) if found else Guest(self._sessions.new(), None)

    def _keep(self, response: Response, session: Session, since: int | None) -> None:
        response.set_cookie(
            COOKIE,
            self._sessions.sealed(session, since),
            max_age=int(LIFE.total_seconds()),
            path=f"{self._prefix}{PORTAL}",
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )

    # -- pages -------------------------------------------------------------------------------------------------------

    def _handler(
        self, view: View, method: str, operation: Operation | None = None
    ) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            guest = self.guest(request)
            try:
                signed_in = guest.session.signed_in and not await self._has_ended(guest.session)
                if signed_in and bool(guest.session.key) != bool(operation):
                    # Pages of a customer are nobody else's, and he has no others: they are not there.
                    return await self._missing(request)
                if signed_in and operation:
                    guest = await self._as_customer(guest)
                    signed_in = guest.customer is not None
            except AzureMLClassicError as error:
                return self._failed(request, guest, error)
            if not signed_in:
                wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                visit = self._visit(request, guest, FormData())
                return RedirectResponse(visit.path("sign-in", next=wanted if method == "GET" else ""), 303)
            return await self._answer(request, guest, view, method, operation)

        return handle

    async def _has_ended(self, session: Session) -> bool:
        return await to_thread.run_sync(self._sessions.has_ended, session, limiter=self._core.threads)

    async def _as_customer(self, guest: Guest) -> Guest:
        """With the customer whose key was presented, unless it was revoked or has ended since."""
        finding = partial(self._core.customers.with_digest, guest.session.key, SCORE)
        try:
            return replace(guest, customer=await to_thread.run_sync(finding, limiter=self._core.threads))
        except (AccessDenied, RequestRejected):
            return guest

    async def _answer(
        self, request: Request, guest: Guest, view: View, method: str, operation: Operation | None
    ) -> Response:
        form = FormData()
        try:
            if operation and not self._visit(request, guest, form).may(operation.name):
                raise _not_opened()
            if guest.session.who == READER and (method == "POST" or view in NOT_FOR_READERS):
                raise _reader()
            if method == "POST":
                form = await self._form(request, guest.session)
            visit = self._visit(request, guest, form)
            shown = self._audited if method == "POST" and view not in READING_FORMS else self._shown
            return await to_thread.run_sync(shown, visit, view, guest, limiter=self._core.threads)
        except ClientDisconnect:
            return Response(status_code=400)
        except AzureMLClassicError as error:
            return self._failed(request, guest, error)
        except Exception as error:
            if told := as_unavailable(error):
                log.error("%s %s: %s", method, request.url.path, error)
                return self._failed(request, guest, told)
            log.exception("%s %s failed", method, request.url.path)
            return self._failed(request, guest, rejection("UnknownError", "The server failed; its log has the reason."))
        finally:
            await form.close()

    async def _form(self, request: Request, session: Session) -> FormData:
        """What was sent, from one of our own pages and within the limits.

        :raises RequestRejected: 403, 400, or 413 before more than the limit is read: of those who are not signed in,
            some KB.
        """
        with_file = request.headers.get("content-type", "").startswith("multipart/")
        limit = MAX_GUEST if not session.signed_in else MAX_UPLOAD if with_file else MAX_FORM
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        limited = Request(request.scope, _limited(request.receive, limit))
        form = await _with_file(limited) if with_file else fields_of(await limited.body())
        if not self._sessions.is_ours(session, form.get("csrf")):
            await form.close()
            raise _foreign()
        return form

    def _visit(self, request: Request, guest: Guest, form: FormData) -> Visit:
        return Visit(
            core=self._core,
            session=guest.session,
            prefix=self._prefix,
            segments=request.path_params,
            query=dict(reversed(request.query_params.multi_items())),
            form=form,
            by_script=request.headers.get("accept") == "application/json",
            customer=guest.customer,
        )

    def _audited(self, visit: Visit, view: View, guest: Guest) -> Response:
        segments = dict(visit.segments)
        what = " ".join(filter(None, ("portal", view.__name__, segments.pop("what", ""))))
        target = " / ".join(filter(None, (*segments.values(), *map(visit.text, TOLD), *_file_name(visit))))
        who, audit = OWNER_NAME, self._core.audit
        if visit.customer and visit.caller.endpoint:
            who = audit.name(visit.caller.endpoint, visit.customer.key)
        with audit.entry(who, what, target) as outcome:
            response = self._shown(visit, view, guest)
            outcome.status = response.status_code
            return response

    def _shown(self, visit: Visit, view: View, guest: Guest) -> Response:
        answer = view(visit)
        if isinstance(answer, Response):
            return answer
        if isinstance(answer, Go):
            response: Response = RedirectResponse(answer.path, 303)
            if answer.said:
                self._keep(response, replace(visit.session, said=(answer.kind, answer.said[:400])), guest.since)
            return response
        response = self.page(visit, answer)
        if visit.session.said:
            self._keep(response, replace(visit.session, said=None), guest.since)
        return response

    def page(self, visit: Visit, page: Page) -> Response:
        """The HTML of a page, with what all pages have."""
        common: dict[str, Any] = {
            "visit": visit,
            "now": visit.now,
            "csrf": self._sessions.csrf(visit.session),
            "static": {name: static_url(self._prefix, name) for name in STATIC},
            "said": visit.session.said,
        }
        return HTMLResponse(render(page.template, {**common, **page.values}), page.status)

    def _failed(self, request: Request, guest: Guest, error: AzureMLClassicError) -> Response:
        visit = self._visit(request, guest, FormData())
        back = request.headers.get("referer", "")
        same = urlsplit(back).path if urlsplit(back).netloc == request.headers.get("host") else ""
        values = {
            "error": error,
            "back": same if same.startswith(f"{self._prefix}{PORTAL}") else visit.home,
        }
        return self.page(visit, Page("error", values, error.status or 500))

    # -- entrance ----------------------------------------------------------------------------------------------------

    async def _home(self, request: Request) -> Response:
        return RedirectResponse(self._visit(request, self.guest(request), FormData()).home, 303)

    async def _sign_in(self, request: Request) -> Response:
        guest = self.guest(request)
        if request.method == "GET":
            visit = self._visit(request, guest, FormData())
            if guest.session.signed_in:
                return RedirectResponse(visit.home, 303)
            response = self.page(visit, Page("sign_in", {"wanted": visit.query.get("next", ""), "error": ""}))
            self._keep(response, guest.session, guest.since)
            return response
        try:
            form = await self._form(request, guest.session)
        except AzureMLClassicError as error:
            return self._failed(request, guest, error)
        visit = self._visit(request, guest, form)
        address = request.client.host if request.client else ""
        entering = partial(entrance.entered, visit, self._brake, address)
        try:
            who = await to_thread.run_sync(entering, limiter=self._core.threads)
        except AzureMLClassicError as error:
            return self._failed(request, guest, error)
        if isinstance(who, Page):
            return self.page(visit, who)
        session = self._sessions.new(who)
        response = RedirectResponse(entrance.wanted(visit, is_key=bool(session.key)), 303)
        self._keep(response, session, None)
        return response

    async def _sign_in_once(self, request: Request) -> Response:
        guest = self.guest(request)
        visit = self._visit(request, guest, FormData())
        address = request.client.host if request.client else ""
        # Who guesses codes waits as who guesses tokens does.
        if self._brake.wait(address) or not self._code.takes(request.path_params["code"], visit.now):
            response = self.page(visit, entrance.used_up(visit, self._brake, address))
            self._keep(response, guest.session, guest.since)
            return response
        response = RedirectResponse(visit.path("services"), 303)
        self._keep(response, self._sessions.new(OWNER), None)
        return response

    async def _sign_out(self, request: Request) -> Response:
        guest = self.guest(request)
        try:
            visit = self._visit(request, guest, await self._form(request, guest.session))
            await to_thread.run_sync(self._sessions.end, guest.session, limiter=self._core.threads)
        except AzureMLClassicError as error:
            return self._failed(request, guest, error)
        response = RedirectResponse(visit.path("sign-in"), 303)
        response.delete_cookie(COOKIE, path=f"{self._prefix}{PORTAL}")
        return response

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            return await self._missing(request)
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(static(name), media_type=STATIC[name], headers=headers)

    async def _nothing(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._missing(Request(scope, receive))
        await response(scope, receive, send)

    async def _missing(self, request: Request) -> Response:
        error = rejection("PageNotFound", f"There is nothing at {request.url.path}.")
        return self._failed(request, self.guest(request), error)


async def _with_file(request: Request) -> FormData:
    try:
        return await request.form(max_files=1, max_fields=MAX_FIELDS)
    except (MultiPartException, HTTPException, ValueError, LookupError) as error:
        raise _unreadable(getattr(error, "message", "")) from None


def fields_of(body: bytes) -> FormData:
    """The fields of a form without a file.

    :param body: as browsers write it.
    :raises RequestRejected: it is no form, or has too many fields.
    """
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise _unreadable("") from None
    return FormData(dict(fields))


def _unreadable(reason: str) -> AzureMLClassicError:
    said = f": {reason.rstrip('.')}" if reason else ""
    return rejection("RequestBodyInvalid", f"The form cannot be read{said}. Open its page again and repeat it.")


def _limited(receive: Receive, limit: int) -> Receive:
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise _too_large(limit)
        return message

    return limited


def _too_large(limit: int) -> AzureMLClassicError:
    if limit == MAX_GUEST:
        return rejection("RequestBodyTooLarge", f"That is over {limit >> 10} KB. Sign in first.")
    return rejection(
        "RequestBodyTooLarge", f"That is over {limit >> 20} MB; put large data into a blob and use the API."
    )


def _file_name(visit: Visit) -> list[str]:
    file = visit.file("data")
    return [file.filename or ""] if file else []


def _not_opened() -> AzureMLClassicError:
    return AccessDenied(
        "The key that you are signed in with does not open this.",
        status=403,
        hint="Sign in with a key that trains, or ask the owner of the service.",
    )


def _reader() -> AzureMLClassicError:
    return AccessDenied(
        "You are signed in with the read-only token, which changes nothing and opens no keys, models or rows.",
        status=403,
        hint="Sign in with the workspace token.",
    )


def _foreign() -> AzureMLClassicError:
    return AccessDenied(
        "This form does not belong to your session, so nothing was done. Open its page again and repeat it.",
        status=403,
        hint="Cookies must be allowed.",
    )
