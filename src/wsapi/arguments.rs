//! What a call says: a JSON object or a form, read strictly.
//!
//! Arguments that are missing, too many, twice there or malformed are refused with a sentence that names them; nothing of
//! them is guessed. Each becomes a type that proves it: an [`Address`], a [`TypedPassword`], a [`RelyingParty`].

use axum::http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Problem;
use crate::{
    browserid::{PublicKey, json::Object},
    identity::{
        Address, TypedPassword,
        staging::{Code, Token},
    },
    mail::RelyingParty,
};

/// Bytes of a body at most, as in the original.
pub const BODY_BYTES_MAX: usize = 10 * 1024;
/// Arguments at most: four times as many as any call takes.
const ARGUMENTS_MAX: usize = 32;
/// Bytes of an assertion or a public key, as in the original.
const LONG_ARGUMENT_BYTES: std::ops::RangeInclusive<usize> = 50..=10_240;

/// The arguments of one call, by name.
#[derive(Default)]
pub struct Arguments(Map<String, Value>);

impl Arguments {
    /// Those in a body, which is JSON or a form as its headers say.
    pub fn of_body(headers: &HeaderMap, body: &[u8]) -> Result<Arguments, Problem> {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind
            .and_then(|kind| kind.split(';').next())
            .unwrap_or_default()
            .trim();
        if body.is_empty() {
            return Ok(Arguments::default());
        }
        if kind.eq_ignore_ascii_case("application/json") {
            let object =
                Object::parse(body).map_err(|error| Problem::bad_request("bad-body", error.to_string()))?;
            return Arguments(object.into_members()).bounded();
        }
        if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Arguments::of_form(body);
        }
        Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "bad-content-type",
            "expected application/json or application/x-www-form-urlencoded",
        ))
    }

    /// Those in a query, or in a body that is a form. All are texts.
    pub fn of_form(form: &[u8]) -> Result<Arguments, Problem> {
        if std::str::from_utf8(form).is_err() {
            return Err(Problem::bad_request("bad-body", "expected UTF-8"));
        }
        let mut members = Map::new();
        for (name, value) in url::form_urlencoded::parse(form) {
            if members.len() >= ARGUMENTS_MAX {
                return Err(too_many());
            }
            let value = Value::String(value.into_owned());
            if members.insert(name.into_owned(), value).is_some() {
                return Err(Problem::bad_request("bad-arguments", "an argument is repeated"));
            }
        }
        Ok(Arguments(members))
    }

    /// Takes out one that is a text.
    pub fn take_text(&mut self, name: &str) -> Option<String> {
        match self.0.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// What they are to this call.
    pub fn read<A: DeserializeOwned>(self) -> Result<A, Problem> {
        serde_json::from_value(Value::Object(self.0))
            .map_err(|error| Problem::bad_request("bad-arguments", error.to_string()))
    }

    fn bounded(self) -> Result<Arguments, Problem> {
        if self.0.len() > ARGUMENTS_MAX {
            return Err(too_many());
        }
        Ok(self)
    }
}

fn too_many() -> Problem {
    Problem::bad_request("bad-arguments", "too many arguments")
}

/// No argument may be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// `email`.
#[derive(Clone, Debug, ToSchema)]
#[schema(value_type = String, format = Email, max_length = 254, example = "ada@example.org")]
pub struct Email(pub Address);

/// `pass`, `oldpass`, `newpass`: one to be checked. That it was once allowed is enough.
#[derive(Clone, Debug, ToSchema)]
#[schema(value_type = String, format = Password, min_length = 8, max_length = 80)]
pub struct Password(pub TypedPassword);

/// `token`.
#[derive(Clone, Debug, ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9]{48}$")]
pub struct TokenArgument(pub Token);

/// `code`, in whichever letters, with or without spaces and hyphens.
#[derive(Clone, Debug, ToSchema)]
#[schema(value_type = String, pattern = "^[ -]*([A-Za-z0-9][ -]*){8}$")]
pub struct CodeArgument(pub Code);

/// `site`: the relying party's origin.
#[derive(Clone, Debug, ToSchema)]
#[schema(value_type = String, pattern = "^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$", example = "https://shop.example")]
pub struct Site(pub RelyingParty);

/// `assertion`.
#[derive(Clone, Debug, ToSchema)]
#[schema(value_type = String, min_length = 50, max_length = 10240)]
pub struct AssertionArgument(pub String);

/// `pubkey`: a JWK, as a text.
#[derive(Clone, Debug, ToSchema)]
#[schema(value_type = String, min_length = 50, max_length = 10240)]
pub struct Pubkey(pub PublicKey);

/// `id` of a session.
#[derive(Clone, Copy, Debug, ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{22}$")]
pub struct SessionId(pub [u8; 16]);

fn text<'de, D: Deserializer<'de>>(deserializer: D, expected: &'static str) -> Result<String, D::Error> {
    String::deserialize(deserializer).map_err(|_| D::Error::custom(expected))
}

impl<'de> Deserialize<'de> for Email {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Email, D::Error> {
        const EXPECTED: &str = "malformed email address";
        let text = text(deserializer, EXPECTED)?;
        Address::parse(&text)
            .map(Email)
            .map_err(|_| D::Error::custom(EXPECTED))
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Password, D::Error> {
        let text = text(deserializer, "malformed password")?;
        TypedPassword::parse(text).map(Password).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for TokenArgument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TokenArgument, D::Error> {
        let text = text(deserializer, "malformed token")?;
        Token::parse(&text).map(TokenArgument).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for CodeArgument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CodeArgument, D::Error> {
        let text = text(deserializer, "malformed code")?;
        Code::parse(&text).map(CodeArgument).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Site {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Site, D::Error> {
        let text = text(deserializer, "malformed origin")?;
        text.parse().map(Site).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for AssertionArgument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AssertionArgument, D::Error> {
        const EXPECTED: &str = "malformed assertion";
        let text = text(deserializer, EXPECTED)?;
        if !LONG_ARGUMENT_BYTES.contains(&text.len()) {
            return Err(D::Error::custom(EXPECTED));
        }
        Ok(AssertionArgument(text))
    }
}

impl<'de> Deserialize<'de> for Pubkey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pubkey, D::Error> {
        let text = text(deserializer, "malformed public key")?;
        if !LONG_ARGUMENT_BYTES.contains(&text.len()) {
            return Err(D::Error::custom("malformed public key"));
        }
        let key = Object::parse(text.as_bytes())
            .map_err(|error| D::Error::custom(format_args!("malformed public key: {error}")))
            .and_then(|jwk| {
                PublicKey::from_jwk(&jwk)
                    .map_err(|error| D::Error::custom(format_args!("malformed public key: {error}")))
            })?;
        match key {
            PublicKey::P256(_) => Ok(Pubkey(key)),
            PublicKey::Rsa(_) => Err(D::Error::custom("malformed public key: expected a P-256 key")),
        }
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SessionId, D::Error> {
        const EXPECTED: &str = "malformed session id";
        let text = text(deserializer, EXPECTED)?;
        crate::browserid::json::decode_base64url(&text)
            .and_then(|bytes| bytes.try_into().ok())
            .map(SessionId)
            .ok_or_else(|| D::Error::custom(EXPECTED))
    }
}
