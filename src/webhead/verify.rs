//! `/verify`: anybody may ask what an assertion proves to whom.
//!
//! Who asks is a relying party's server, where all its people come from one address: what a browser may do in a second says
//! nothing of it. So it pays as a verifier, and its relying party beside it; an address whose domain has to be asked costs it
//! as much as asking does.

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::Webhead;
use crate::{
    browserid::{BackedAssertion, Domain},
    limits::Cost,
    wsapi::{
        Problem,
        answer::NOT_KEPT,
        arguments::Arguments,
        reception::{client_of, read_body, too_many},
    },
};

/// Where it lies.
pub(super) const VERIFY: &str = "/verify";

/// Says whether an assertion proves an address to this audience. `assertion` and `audience` come in a form, in JSON, or in
/// the query of the POST.
#[utoipa::path(
    post,
    path = "/verify",
    tag = "verifier",
    params(
        ("assertion" = Option<String>, Query, description = "a certificate, `~`, and an assertion"),
        ("audience" = Option<String>, Query, description = "the origin of the one who asks")
    ),
    responses(
        (status = 200, description = "`{status: \"okay\", email, audience, expires, issuer}`, or `{status: \"failure\", reason}`"),
        (status = 400, description = "assertion or audience is missing"),
        (status = 429, description = "more than one relying party, or one server of some, may have verified in a while"),
        (status = 503, description = "no verdict now: ask again")
    )
)]
pub(super) async fn verify(State(webhead): State<Webhead>, request: Request) -> Response {
    let answer = match judge(&webhead, request).await {
        Ok(response) => response,
        Err(problem) => {
            let body = json!({ "status": "failure", "reason": problem.reason() });
            problem.with_body(Json(body))
        }
    };
    ([(CACHE_CONTROL, NOT_KEPT)], answer).into_response()
}

async fn judge(webhead: &Webhead, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let limits = &webhead.reception.limits;
    let client = client_of(&parts.headers);
    limits.pay_as_verifier(client, Cost::Verify).map_err(too_many)?;
    let body = read_body(body).await?;
    let mut arguments = Arguments::of_body(&parts.headers, &body)?;
    let query = parts.uri.query().unwrap_or_default();
    let mut asked = Arguments::of_form(query.as_bytes())?;
    let mut take = |name: &str| arguments.take_text(name).or_else(|| asked.take_text(name));
    let (Some(assertion), Some(audience)) = (take("assertion"), take("audience")) else {
        return Err(Problem::bad_request(
            "bad-arguments",
            "need assertion and audience",
        ));
    };
    limits
        .pay_for_rp(client, &audience, Cost::Verify)
        .map_err(too_many)?;
    let verdict = match BackedAssertion::parse(&assertion) {
        Ok(backed) => {
            let domain = Domain::of(backed.certificate().email());
            if !webhead.verifier.remembers(&domain) {
                limits.pay_as_verifier(client, Cost::Fetch).map_err(too_many)?;
            }
            let now_ms = webhead.reception.now_ms();
            webhead.verifier.verify(&backed, &audience, now_ms).await?
        }
        Err(error) => Err(error.into()),
    };
    Ok(match verdict {
        Ok(verified) => {
            metrics::counter!("persona_verify_total", "result" => "okay").increment(1);
            Json(verified).into_response()
        }
        Err(reason) => {
            metrics::counter!("persona_verify_total", "result" => "failure").increment(1);
            let body = json!({ "status": "failure", "reason": reason.to_string() });
            (StatusCode::OK, Json(body)).into_response()
        }
    })
}
