//! What one failed request tells by itself: its address, its status, its message.

use std::collections::HashMap;

use crate::cause::{Certainty, Name};
use crate::sample::{Answer, Fate};
use crate::text;

/// What addresses of one operation have in common, to see what is odd about one of them.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    ids: u32,
    uuids: u32,
    with_digits: u32,
}

impl Shape {
    /// Takes in the address of a request that went well or not.
    pub(crate) fn take(&mut self, url: &str) {
        let Some(id) = last_part(url) else { return };
        self.ids += 1;
        self.uuids += u32::from(is_uuid(id));
        self.with_digits += u32::from(id.bytes().any(|b| b.is_ascii_digit()));
    }

    fn of_uuids(&self) -> bool {
        self.ids >= 3 && self.uuids * 10 >= self.ids * 7
    }

    fn of_ids(&self) -> bool {
        self.ids >= 3 && self.with_digits * 10 >= self.ids * 7
    }
}

/// What the addresses of a result file are like, by operation.
pub(crate) type Shapes = HashMap<u32, Shape>;

/// The path of an address.
pub(crate) fn path(url: &str) -> &str {
    behind_host(url).split(['?', '#']).next().unwrap_or_default()
}

/// The path of an address and what is behind it.
pub(crate) fn behind_host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.get(rest.find('/').unwrap_or(rest.len())..).unwrap_or_default()
}

fn last_part(url: &str) -> Option<&str> {
    path(url).rsplit('/').next().filter(|part| !part.is_empty())
}

/// `0a1b2c3d-0000-4000-8000-000000000001`.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// What no word of a person is.
pub(crate) fn is_template(value: &str) -> bool {
    let braces = value.starts_with('{') && value.ends_with('}') && value.len() > 2;
    value.contains("${") || value.starts_with("{{") || braces || (value.starts_with('<') && value.ends_with('>'))
}

/// A variable or a template that nobody filled in, or what an extractor says when it finds nothing.
pub(crate) fn is_placeholder(value: &str) -> bool {
    let value = value.trim();
    let upper = value.to_uppercase().replace(['-', ' '], "_");
    is_template(value)
        || matches!(upper.as_str(), "NULL" | "UNDEFINED" | "NAN" | "NONE" | "NIL" | "N/A" | "TODO" | "TBD" | "NO_MATCH")
        || ["NOT_FOUND", "NOTFOUND", "CHANGEME", "CHANGE_ME", "PLACEHOLDER", "DEFAULT_VALUE", "NO_VALUE", "_ERROR"]
            .iter()
            .any(|word| upper.contains(word))
}

/// What an address tells by its text alone.
fn of_text(text: &str) -> Option<Name> {
    let lower = text.to_lowercase();
    if lower.contains("<eof>") || lower.contains("%3ceof%3e") {
        return Some(Name::FeedExhausted);
    }
    (lower.contains("${") || lower.contains("%24%7b") || lower.contains("$%7b")).then_some(Name::FeedPlaceholder)
}

/// What the address of a failed request tells.
pub(crate) fn of_address(url: &str, shape: Option<&Shape>) -> Option<Name> {
    if let Some(name) = of_text(url) {
        return Some(name);
    }
    let lower = path(url).to_lowercase();
    if lower.contains("%ef%bb%bf") || url.contains('\u{feff}') {
        return Some(Name::FeedBom);
    }
    if lower.contains('"') || lower.contains("%22") {
        return Some(Name::FeedQuotes);
    }
    let uuids = shape.is_some_and(Shape::of_uuids);
    let Some(id) = last_part(url) else {
        // Of a request that was never sent there is no address.
        let list = lower.ends_with("/scripts/");
        return (list || (uuids && url.contains("://"))).then_some(Name::FeedEmptyId);
    };
    if lower.contains("//") || lower.contains("/%20/") {
        return Some(Name::FeedEmptyId);
    }
    let decoded = id.replace("%7B", "{").replace("%7b", "{").replace("%7D", "}").replace("%7d", "}");
    let decoded = decoded.replace("%3C", "<").replace("%3c", "<").replace("%3E", ">").replace("%3e", ">");
    // Pages are called `not-found` and `todo` too.
    let nothing = ["null", "undefined", "nan", "none", "nil"].contains(&decoded.to_lowercase().as_str());
    let of_script = lower.trim_end_matches('/').rsplit('/').nth(1).is_some_and(|part| part == "scripts");
    let of_ids = of_script || shape.is_some_and(Shape::of_ids);
    let unfilled = of_ids || nothing || !decoded.contains(|c: char| c.is_lowercase());
    if is_template(&decoded) || (unfilled && is_placeholder(&decoded)) {
        return Some(Name::FeedPlaceholder);
    }
    if lower.ends_with("%20") || lower.ends_with('+') || lower.contains("/%20") || lower.ends_with("%09") {
        return Some(Name::FeedSpace);
    }
    if !uuids || is_uuid(id) {
        return None;
    }
    let inside = path(url).split('/').any(is_uuid);
    if !inside && id.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_') {
        let word = id.to_lowercase();
        let named = word.ends_with("id") || word.contains("script");
        return named.then_some(Name::FeedHeaderRow);
    }
    let odd = ["%2f", "%3f", "%23", "%5c", "%25"].iter().any(|code| id.to_lowercase().contains(code));
    if odd || inside {
        return Some(Name::FeedUnencodedId);
    }
    Some(Name::FeedUnknownId)
}

/// A request that fetches a token.
pub(crate) fn is_login(label: &str, url: &str) -> bool {
    let label = label.to_lowercase();
    path(url).contains("/oauth")
        || ["login", "log in", "logon", "sign in", "oauth"].iter().any(|word| label.contains(word))
}

/// Whether such an answer comes of such an address: what is busy or down answers all addresses so.
fn may_fail_of(answer: &Answer, name: Name) -> bool {
    use Name::{FeedEmptyId, FeedHeaderRow, FeedUnencodedId, FeedUnknownId};
    !matches!(name, FeedEmptyId | FeedHeaderRow | FeedUnencodedId | FeedUnknownId)
        || match answer.fate {
            Fate::Status(status) => !matches!(status, 408 | 429 | 502..=504),
            _ => says(&answer.code.to_lowercase(), &["urisyntax", "illegalargument"]),
        }
}

/// What one failed request tells by itself, and how surely. What addresses of its kind that were `served` show is nothing
/// wrong.
pub(crate) fn of(
    answer: &Answer,
    label: &str,
    url: &str,
    shape: Option<&Shape>,
    served: &[Name],
) -> Option<(Name, Certainty)> {
    use Certainty::{Certain, Likely};
    let text = format!("{} {} {}", answer.code, answer.message, answer.failure);
    if answer.fate == Fate::Own {
        return Some(own(&answer.code, &text));
    }
    if let Some(name) = of_text(&text) {
        return Some((name, Certain));
    }
    let asked = of_address(url, shape).filter(|name| !served.contains(name) && may_fail_of(answer, *name));
    if let Some(name) = asked {
        let sure = matches!(name, Name::FeedExhausted | Name::FeedPlaceholder | Name::FeedBom | Name::FeedSpace);
        return Some((name, if sure { Certain } else { Likely }));
    }
    match answer.fate {
        Fate::Status(status) => of_status(status, &text, is_login(label, url)),
        _ => of_exception(&text.to_lowercase()),
    }
}

fn own(code: &str, text: &str) -> (Name, Certainty) {
    match code {
        "304" => (Name::NotModified, Certainty::Likely),
        "301" | "302" | "303" | "307" | "308" => (Name::Redirected, Certainty::Likely),
        _ if text.contains("mbedded resource download error") => (Name::WrongAddress, Certainty::Likely),
        _ => (Name::OwnAssertion, Certainty::Certain),
    }
}

fn says(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// Whether these are in a text as words of their own.
fn has_words(words: &str, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| words.contains(&format!(" {phrase} ")))
}

const THROTTLED: &[&str] = &[
    "rate limit",
    "rate limits",
    "rate limited",
    "rate limiting",
    "ratelimit",
    "ratelimited",
    "rate exceeded",
    "too many requests",
    "too many calls",
    "too many logins",
    "too many concurrent requests",
    "too many concurrent calls",
    "too many concurrent logins",
    "too many concurrent connections",
    "too many simultaneous requests",
    "toomanyrequests",
    "throttle",
    "throttled",
    "throttling",
    "quota",
    "quotas",
    "throughput exceeded",
    "request limit",
    "requests limit",
    "call limit",
    "api limit",
    "usage limit",
    "burst limit",
    "concurrency limit",
    "limit exceeded exception",
    "slow down",
    "spike arrest",
    "throttlingexception",
];

const CONTENTION: &[&str] = &[
    "conflict",
    "conflicts",
    "conflicting",
    "lock",
    "locks",
    "locked",
    "locking",
    "deadlock",
    "concurrent update",
    "concurrent updates",
    "concurrent modification",
    "concurrent modifications",
    "concurrent edit",
    "concurrent edits",
    "concurrent change",
    "concurrent write",
    "concurrently modified",
    "concurrency",
    "current version",
];

fn of_status(status: u16, told: &str, login: bool) -> Option<(Name, Certainty)> {
    use Certainty::{Certain, Likely};
    let (words, lower) = (text::words(told), told.to_lowercase());
    let text = lower.as_str();
    if status == 429 || (status < 500 && has_words(&words, THROTTLED)) {
        return Some((if login { Name::LoginThrottled } else { Name::Quota }, Certain));
    }
    let name = match status {
        400 if says(text, &["plain http request was sent to https", "http request to an https"]) => Name::WrongScheme,
        400 if says(text, &["header or cookie too large", "header too large", "header fields too large"]) => {
            Name::HeaderWrong
        }
        // An account that is locked is nobody's object.
        400 | 409 | 412 | 423 if has_words(&words, CONTENTION) && !login => Name::Contention,
        400 if says(text, &["missing authorization", "missing bearer", "no authentication"]) => Name::TokenMissing,
        400 | 401 if says(text, &["token expired", "expired token", "token has expired", "token is expired"]) => {
            Name::TokenExpired
        }
        400 | 401 | 403 if login => return Some((Name::LoginRefused, Likely)),
        409 | 423 => Name::Contention,
        408 => Name::Timeout,
        406 | 411 | 412 | 415 | 431 => Name::HeaderWrong,
        405 => Name::WrongAddress,
        _ => return None,
    };
    Some((name, Likely))
}

/// By the exception that the tool names instead of a status.
fn of_exception(text: &str) -> Option<(Name, Certainty)> {
    use Certainty::Likely;
    let name =
        if says(text, &["outofmemory", "too many open files", "unable to create new native thread", "no buffer space"])
        {
            Name::GeneratorLimited
        } else if says(text, &["unrecognized ssl message", "plaintext connection", "unsupported or unrecognized ssl"]) {
            Name::WrongScheme
        } else if says(text, &["urisyntax", "malformedurl", "illegalargument", "illegal character"]) {
            Name::ClientMade
        } else {
            return None;
        };
    Some((name, Likely))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Option<Name> {
        let mut shape = Shape::default();
        for i in 0..9 {
            shape.take(&format!("https://api.test/api/v2/scripts/0a1b2c3d-0000-4000-8000-00000000000{i}"));
        }
        of_address(url, Some(&shape))
    }

    #[test]
    fn an_address_tells_what_is_wrong_with_its_id() {
        let base = "https://api.test/api/v2/scripts/";
        let good = "0a1b2c3d-0000-4000-8000-000000000001";
        for (id, expected) in [
            (good.to_owned(), None),
            ("%3CEOF%3E".into(), Some(Name::FeedExhausted)),
            ("<EOF>".into(), Some(Name::FeedExhausted)),
            ("${scriptId}".into(), Some(Name::FeedPlaceholder)),
            ("%24%7BscriptId%7D".into(), Some(Name::FeedPlaceholder)),
            ("{scriptId}".into(), Some(Name::FeedPlaceholder)),
            ("SCRIPT_NOT_FOUND".into(), Some(Name::FeedPlaceholder)),
            ("null".into(), Some(Name::FeedPlaceholder)),
            (format!("{good}%20"), Some(Name::FeedSpace)),
            (format!("{good}+"), Some(Name::FeedSpace)),
            (format!("%22{good}%22"), Some(Name::FeedQuotes)),
            (format!("%EF%BB%BF{good}"), Some(Name::FeedBom)),
            (String::new(), Some(Name::FeedEmptyId)),
            ("scriptId".into(), Some(Name::FeedHeaderRow)),
            (format!("{good}/x"), Some(Name::FeedUnencodedId)),
            ("0a1b2c3d-0000-4000".into(), Some(Name::FeedUnknownId)),
        ] {
            assert_eq!(address(&format!("{base}{id}")), expected, "{id}");
        }
    }

    #[test]
    fn addresses_without_ids_tell_nothing() {
        let shape = Shape::default();
        for url in ["https://op.test/get-tokens", "https://op.test/", "https://op.test/orders/17", "null", ""] {
            assert_eq!(of_address(url, Some(&shape)), None, "{url}");
        }
    }
}
