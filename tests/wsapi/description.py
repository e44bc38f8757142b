"""What a browser has that calls: a cookie, and the CSRF value that goes with it. Hooks of Schemathesis."""

import os

import schemathesis

# Of somebody signed in, and of nobody; see description.rs.
SOMEBODY = os.environ["PERSONA_SOMEBODY"], os.environ["PERSONA_SOMEBODYS_CSRF"]
NOBODY = os.environ["PERSONA_NOBODY"], os.environ["PERSONA_NOBODYS_CSRF"]
# What would end the session that the others need.
ENDS_SESSIONS = {"account_cancel", "end_session", "logout", "sign_out_everywhere", "update_password"}


@schemathesis.hook
def before_call(context, case, kwargs):
    call = case.operation.path.rsplit("/", 1)[-1]
    cookie, csrf = NOBODY if call in ENDS_SESSIONS else SOMEBODY
    case.headers = case.headers or {}
    case.headers["Cookie"] = cookie
    # One that is missing stays so: that is refused, too.
    if isinstance(case.body, dict) and "csrf" in case.body:
        case.body["csrf"] = csrf
