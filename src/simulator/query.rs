//! Query parameters, and what is wrong with them.

use http::Uri;
use oauth2::url::form_urlencoded;

use super::refusal::Refusal;

/// The pairs of a query or a form, decoded.
pub(super) struct Query(pub(super) Vec<(String, String)>);

impl Query {
    pub(super) fn read(form: &[u8]) -> Self {
        Self(form_urlencoded::parse(form).into_owned().collect())
    }

    pub(super) fn of(uri: &Uri) -> Self {
        Self::read(uri.query().unwrap_or_default().as_bytes())
    }

    /// The first value that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(super) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// A whole number of at least 1 that fits 32 bits, or `default` where the parameter is absent.
    pub(super) fn positive(&self, name: &str, default: u32) -> Result<u32, Refusal> {
        let Some((_, text)) = self.0.iter().find(|(key, _)| key == name) else {
            return Ok(default);
        };
        match text.parse::<i32>() {
            Ok(number) if number >= 1 => Ok(number.unsigned_abs()),
            _ => Err(Refusal::invalid_value(name, text, "Integer", "1 to 2147483647")),
        }
    }

    /// Whether it is true, in any case.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.text(name) {
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if !text.eq_ignore_ascii_case("false") => {
                Err(Refusal::invalid_value(name, text, "Boolean", "true, false"))
            }
            _ => Ok(false),
        }
    }

    /// One of `allowed`.
    pub(super) fn one_of(&self, name: &str, allowed: &[&'static str]) -> Result<Option<&'static str>, Refusal> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let known = allowed.iter().find(|value| **value == text);
        known.map(|value| Some(*value)).ok_or_else(|| Refusal::invalid_value(name, text, "Enum", &allowed.join(", ")))
    }
}
