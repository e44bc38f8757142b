//! The description of the whole API that programs read: OpenAPI 3.1, made from the code.
//!
//! Each tier describes its own calls; this puts them together, and says of all what the reception demands of all: the CSRF
//! value, the Idempotency-Key, and how refusals look.

use utoipa::{
    OpenApi,
    openapi::{
        ContentBuilder, ObjectBuilder, OpenApi as Description, Ref, RefOr, ResponseBuilder, Type,
        path::{Operation, ParameterBuilder, ParameterIn},
        schema::{AnyOfBuilder, Schema},
    },
};

use super::{PREFIX, problem::ProblemBody};
use crate::{keysigner, secure_webhead, webhead};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Persona",
        description = "A person proves to a web site that they own an email address. Calls under /wsapi/ are for Persona's own pages; \
                       /verify and /.well-known/browserid are for everybody."
    ),
    components(schemas(ProblemBody))
)]
struct Whole;

/// Describes every call.
pub fn description() -> Description {
    let mut whole = Whole::openapi();
    for part in [
        webhead::description(),
        secure_webhead::description(),
        keysigner::description(),
    ] {
        whole.merge(part);
    }
    for (path, item) in &mut whole.paths.paths {
        if !path.starts_with(PREFIX) {
            continue;
        }
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            refusals(operation);
        }
        if let Some(post) = &mut item.post {
            // What is thrown away is not asked about twice.
            if path != THROWN_AWAY {
                demands_of_a_post(post);
            }
        }
        if ANSWERS_NO_WITH_200.iter().any(|name| path.ends_with(name)) {
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                may_answer_no(operation);
            }
        }
    }
    if let Some(components) = &mut whole.components {
        let bodies: Vec<_> = whole
            .paths
            .paths
            .values()
            .filter_map(|item| body_schema(item.post.as_ref()?))
            .collect();
        for name in bodies {
            if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(&name) {
                object.properties.insert(
                    "csrf".to_owned(),
                    ObjectBuilder::new()
                        .schema_type(Type::String)
                        .description(Some("`csrf_token` of session_context"))
                        .into(),
                );
                if !object.required.iter().any(|name| name == "csrf") {
                    object.required.push("csrf".to_owned());
                }
            }
        }
    }
    whole
}

/// It takes whatever it is sent.
const THROWN_AWAY: &str = "/wsapi/interaction_data";

/// Calls to which "no" is an answer, and no error of the request: a wrong password, a code, a token that is over.
const ANSWERS_NO_WITH_200: &[&str] = &[
    "/authenticate_user",
    "/auth_with_assertion",
    "/add_email_with_assertion",
    "/update_password",
    "/email_for_token",
    "/complete_user_creation",
    "/complete_email_confirmation",
    "/complete_reset",
    "/complete_transition",
    "/complete_by_code",
];

/// The answer is what it is said to be, or `{success: false}` with the reason.
fn may_answer_no(operation: &mut Operation) {
    let Some(RefOr::T(answer)) = operation.responses.responses.get_mut("200") else {
        return;
    };
    for content in answer.content.values_mut() {
        if let RefOr::T(content) = content
            && let Some(yes) = content.schema.take()
        {
            let either = AnyOfBuilder::new()
                .item(yes)
                .item(Ref::from_schema_name("ProblemBody"));
            content.schema = Some(RefOr::T(Schema::AnyOf(either.build())));
        }
    }
}

/// How every call says no.
fn refusals(operation: &mut Operation) {
    for (status, words) in [
        ("400", "the request is wrong, or nobody is signed in"),
        ("401", "the password for this token is asked for"),
        ("403", "not from one of our pages, or not allowed"),
        ("404", "not known"),
        ("409", "not possible any more"),
        ("413", "too large"),
        ("415", "neither JSON nor a form"),
        ("429", "too often: see Retry-After"),
        (
            "503",
            "not now or not here: see Retry-After, and ask again with the same Idempotency-Key",
        ),
    ] {
        let body = Ref::from_schema_name("ProblemBody");
        let response = ResponseBuilder::new()
            .description(words)
            .content(
                "application/json",
                ContentBuilder::new().schema(Some(body)).build(),
            )
            .build();
        operation
            .responses
            .responses
            .entry(status.to_owned())
            .or_insert(RefOr::T(response));
    }
}

fn demands_of_a_post(operation: &mut Operation) {
    let key = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .description(Some(
            "Random. What was written under it is answered again for ten minutes, at every site.",
        ))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .min_length(Some(16))
                .max_length(Some(64)),
        ))
        .build();
    operation.parameters.get_or_insert_default().push(RefOr::T(key));
}

fn body_schema(operation: &Operation) -> Option<String> {
    let RefOr::T(body) = operation.request_body.as_ref()? else {
        return None;
    };
    let RefOr::T(content) = body.content.get("application/json")? else {
        return None;
    };
    match content.schema.as_ref()? {
        RefOr::Ref(reference) => reference.ref_location.rsplit('/').next().map(str::to_owned),
        RefOr::T(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wsapi::ENDPOINTS;

    #[test]
    fn every_call_is_described_by_its_method_and_no_other() {
        let description = description();
        for endpoint in ENDPOINTS {
            let path = format!("{PREFIX}{}", endpoint.name);
            let item = description.paths.paths.get(&path);
            let item = item.unwrap_or_else(|| panic!("{path} is not described"));
            let is_post = endpoint.method == axum::http::Method::POST;
            assert_eq!(
                (item.get.is_some(), item.post.is_some()),
                (!is_post, is_post),
                "{path}"
            );
        }
        let described = description
            .paths
            .paths
            .keys()
            .filter(|path| path.starts_with(PREFIX));
        assert_eq!(described.count(), ENDPOINTS.len());
        for name in ANSWERS_NO_WITH_200 {
            let is_one = |endpoint: &crate::wsapi::Endpoint| Some(endpoint.name) == name.strip_prefix('/');
            assert!(ENDPOINTS.iter().any(is_one), "{name}");
        }
    }
}
