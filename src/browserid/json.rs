//! A JSON object, read strictly.
//!
//! What is signed must mean one thing. `serde_json` keeps the last of two members of one name, other parsers keep
//! the first (RFC 8259 §4), so a token with a repeated name could say one thing to us and another to somebody else;
//! here it is refused, at every depth (RFC 7515 §4, RFC 7519 §4). NaN, infinities and trailing text are no JSON, and
//! numbers that do not fit are refused by the parser.
//!
//! Promise: an [`Object`] has no repeated name at any depth and is nested at most [`DEPTH_MAX`] deep, and reading a
//! member never converts one type into another.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// How deep objects and arrays may lie in each other. Ours need two; a primary may add something of its own.
pub const DEPTH_MAX: usize = 16;

/// The greatest time that is taken, in milliseconds since 1970: the end of the year 9999. Sums of such times and
/// of durations cannot overflow.
pub const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// An object without repeated names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(Map<String, Value>);

/// Why bytes are no object that is taken, or a member is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not one JSON value, a name twice, or nested too deep.
    #[error("not strict JSON: {0}")]
    Syntax(String),
    /// JSON, but something else than an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A member that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A member is of another type, or out of its range.
    #[error("`{0}` is malformed")]
    Malformed(&'static str),
}

impl Object {
    /// Reads one object, and nothing after it.
    pub fn parse(bytes: &[u8]) -> Result<Object, JsonError> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let value = Strict { depth: 0 }.deserialize(&mut json).map_err(syntax)?;
        json.end().map_err(syntax)?;
        match value {
            Value::Object(members) => Ok(Object(members)),
            _ => Err(JsonError::NotAnObject),
        }
    }

    /// All members.
    pub fn into_members(self) -> Map<String, Value> {
        self.0
    }

    /// Whether there is a member of this name, whatever it is.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names of all members.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A string.
    pub fn text(&self, name: &'static str) -> Result<&str, JsonError> {
        self.optional_text(name)?.ok_or(JsonError::Missing(name))
    }

    /// A string, if the member is there.
    pub fn optional_text(&self, name: &'static str) -> Result<Option<&str>, JsonError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(JsonError::Malformed(name)),
        }
    }

    /// Whether a member says yes, as the original took it: any value but `false`, `null`, 0 and `""`.
    pub fn says_yes(&self, name: &'static str) -> bool {
        match self.0.get(name) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Bool(true) | Value::Array(_) | Value::Object(_)) => true,
        }
    }

    /// A whole number that is not negative.
    pub fn number(&self, name: &'static str) -> Result<u64, JsonError> {
        let value = self.0.get(name).ok_or(JsonError::Missing(name))?;
        value.as_u64().ok_or(JsonError::Malformed(name))
    }

    /// A time in milliseconds since 1970: a whole number, up to the year 9999.
    pub fn time_ms(&self, name: &'static str) -> Result<u64, JsonError> {
        let time_ms = self.number(name)?;
        if time_ms > TIME_MS_MAX {
            return Err(JsonError::Malformed(name));
        }
        Ok(time_ms)
    }

    /// A time in milliseconds since 1970, if the member is there.
    pub fn optional_time_ms(&self, name: &'static str) -> Result<Option<u64>, JsonError> {
        self.has(name).then(|| self.time_ms(name)).transpose()
    }

    /// Bytes in base64url without padding, canonical.
    pub fn bytes(&self, name: &'static str) -> Result<Vec<u8>, JsonError> {
        decode_base64url(self.text(name)?).ok_or(JsonError::Malformed(name))
    }

    /// As many bytes as `N`, in base64url without padding, canonical.
    pub fn array<const N: usize>(&self, name: &'static str) -> Result<[u8; N], JsonError> {
        let bytes = self.bytes(name)?;
        bytes.try_into().map_err(|_| JsonError::Malformed(name))
    }

    /// An object within this one.
    pub fn object(&self, name: &'static str) -> Result<Object, JsonError> {
        self.optional_object(name)?.ok_or(JsonError::Missing(name))
    }

    /// An object within this one, if the member is there.
    pub fn optional_object(&self, name: &'static str) -> Result<Option<Object>, JsonError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Object(members.clone()))),
            Some(_) => Err(JsonError::Malformed(name)),
        }
    }

    /// A list of objects, if the member is there.
    pub fn optional_objects(&self, name: &'static str) -> Result<Option<Vec<Object>>, JsonError> {
        let items = match self.0.get(name) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(JsonError::Malformed(name)),
        };
        let objects = items.iter().map(|item| match item {
            Value::Object(members) => Ok(Object(members.clone())),
            _ => Err(JsonError::Malformed(name)),
        });
        objects.collect::<Result<_, _>>().map(Some)
    }
}

/// Decodes base64url as RFC 7515 §2 has it: no padding, no white space, and the bits that fill up the last digit
/// zero, so that bytes have one encoding only.
pub fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Encodes base64url as RFC 7515 §2 has it.
pub fn encode_base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn syntax(error: serde_json::Error) -> JsonError {
    JsonError::Syntax(error.to_string())
}

/// Reads a value as `serde_json` does, but refuses what [`Object`] promises not to have.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Strict, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom("nested too deep"));
        }
        Ok(Strict {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inside = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inside)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inside = self.deeper()?;
        let mut values = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inside)?;
            // The name is not repeated in the message: it is the sender's text.
            if values.insert(name, value).is_some() {
                return Err(de::Error::custom("a name is repeated"));
            }
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, taken: bool) {
        let parsed = Object::parse(text.as_bytes());
        assert_eq!(parsed.is_ok(), taken, "{text}: {parsed:?}");
    }

    #[test]
    fn only_an_object_without_repeated_names_is_taken() {
        check("{}", true);
        check(r#" {"a": [1, -2, 0.5, true, null, "x", {"a": {}}]} "#, true);
        check(r#"{"a": 1, "A": 2}"#, true);
        check(r#"{"a": 1, "a": 1}"#, false);
        check(r#"{"a": 1, "\u0061": 1}"#, false);
        check(r#"{"b": {"a": 1, "a": 2}}"#, false);
        check(r#"{"b": [[{"a": 1, "a": 2}]]}"#, false);
        check("", false);
        check("null", false);
        check("[]", false);
        check("{} {}", false);
        check("{}x", false);
        check(r#"{"a": 1,}"#, false);
        check("{a: 1}", false);
        check("{'a': 1}", false);
        check(r#"{"a": NaN}"#, false);
        check(r#"{"a": Infinity}"#, false);
        check(r#"{"a": -Infinity}"#, false);
        check(r#"{"a": 1e999}"#, false);
        check(r#"{"a": 01}"#, false);
        check(r#"{"a": 0x1}"#, false);
        check("{\"a\": \"\u{1}\"}", false);
        check(r#"{"a": "\ud800"}"#, false);
        check("\u{feff}{}", false);
        check("{} // comment", false);
        assert!(Object::parse(b"{\"a\": \"\xff\"}").is_err());
    }

    #[test]
    fn nesting_ends_where_it_is_said_to() {
        let nested = |depth: usize| {
            let inside = depth - 1;
            format!("{{\"a\":{}{}}}", "[".repeat(inside), "]".repeat(inside))
        };
        check(&nested(DEPTH_MAX), true);
        check(&nested(DEPTH_MAX + 1), false);
        check(&nested(5000), false);
    }

    #[test]
    fn a_time_is_a_whole_number_of_milliseconds_within_reason() {
        #[track_caller]
        fn time(number: &str, expected: Option<u64>) {
            let object = Object::parse(format!("{{\"t\":{number}}}").as_bytes());
            assert_eq!(
                object.and_then(|object| object.time_ms("t")).ok(),
                expected,
                "{number}"
            );
        }
        time("0", Some(0));
        time("1353000000000", Some(1_353_000_000_000));
        time("253402300799999", Some(TIME_MS_MAX));
        time("253402300800000", None);
        time("18446744073709551615", None);
        time("18446744073709551616", None);
        time("-1", None);
        time("-0", None);
        time("1.5", None);
        time("1353000000000.0", None);
        time("1.353e12", None);
        time("\"1353000000000\"", None);
        time("null", None);
        time("true", None);
        time("[1]", None);
    }

    #[test]
    fn base64url_has_one_form() {
        assert_eq!(decode_base64url(""), Some(vec![]));
        assert_eq!(decode_base64url("_-8"), Some(vec![0xff, 0xef]));
        for refused in [
            "_-8=",
            "_-9",
            "/+8",
            "_-8\n",
            " _-8",
            "_-8 ",
            "_",
            "_-8A=",
            "_\u{2d}\u{301}",
        ] {
            assert_eq!(decode_base64url(refused), None, "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Object::parse(&bytes);
        }

        #[test]
        fn what_is_decoded_encodes_to_the_same_text(text in "[A-Za-z0-9_=-]{0,12}") {
            if let Some(bytes) = decode_base64url(&text) {
                prop_assert_eq!(encode_base64url(bytes), text);
            }
        }
    }
}
