//! Ids: validated first, percent-encoded second.
//!
//! Encoding alone is no defence. To a URL `%2E%2E` is still `..`, an empty id turns the path of one
//! script into the path of the list, and `published` is another route. What a load test's feeder
//! makes of a missing value (`<EOF>`, `${scriptId}`, `null`) is answered by the service with a 400
//! that reads like a fault of its own. All of these are refused here, before anything is sent.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use crate::text::{is_hidden, quoted};

/// The longest id accepted, in bytes.
pub(crate) const MAX_ID_BYTES: usize = 256;

/// The words of the API's own routes: `/scripts/published` is no script, and the published script `pages` would be the pages
/// of a script `published`.
const ROUTE_WORDS: [&str; 7] = ["published", "divisionviews", "uploads", "pages", "variables", "export", "status"];

/// Why an id was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IdProblem {
    /// It is empty. The request would have asked for the list.
    Empty,
    /// It is only white space.
    Blank,
    /// It begins or ends with white space, as a value read from a file without trimming does.
    SurroundingSpace,
    /// It holds a control character or an invisible one (a byte order mark, a zero-width space, …).
    ControlCharacter,
    /// It is `.` or `..`: a path that walks up.
    DotSegment,
    /// It holds a `/` or `\`, as an address, a path or a file's name does.
    Slash,
    /// It is in quotes, as a CSV file has it, or in braces, as Windows writes a GUID.
    Quoted,
    /// It is longer than 256 bytes.
    TooLong,
    /// It is a word that names another route: `published`, `divisionviews`, `uploads`, `pages`, `variables`, `export`, `status`.
    RouteWord,
    /// It is a placeholder nobody filled in: `${scriptId}`, `{{scriptId}}`, `#{scriptId}`, `<EOF>`, `null`, …
    Placeholder,
    /// It is percent-encoded already, and would be encoded twice. What is refused for another reason once it is decoded
    /// (`%3CEOF%3E`, `%2e%2e`) has that reason.
    Encoded,
}

impl IdProblem {
    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Self::Empty => "is empty: the request would have asked for the list instead",
            Self::Blank => "is blank",
            Self::SurroundingSpace => "has white space around it: trim it where it is read",
            Self::ControlCharacter => {
                "holds a control or invisible character (a byte order mark or line end from a file?)"
            }
            Self::DotSegment => "is a dot segment: the request would have walked up the path",
            Self::Slash => "holds a / or \\: of an address or a path only the last part is the id",
            Self::Quoted => "is in quotes or braces: take them off where it is read",
            Self::TooLong => "is longer than 256 bytes",
            Self::RouteWord => "is a word that names another route of the API",
            Self::Placeholder => {
                "is a placeholder that was never filled in (a feeder that ran out of rows, an unset variable?)"
            }
            Self::Encoded => "is percent-encoded: give it as it is, it is encoded when it is sent",
        }
    }
}

/// An id that was refused; nothing was sent.
///
/// ```
/// use genesys_scripts::{IdProblem, ScriptId};
///
/// let refused = "<EOF>".parse::<ScriptId>().unwrap_err();
/// assert_eq!(refused.problem(), IdProblem::Placeholder);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidId {
    kind: &'static str,
    shown: String,
    problem: IdProblem,
}

impl InvalidId {
    /// Why it was refused.
    #[must_use]
    pub fn problem(&self) -> IdProblem {
        self.problem
    }

    /// What kind of id it was meant to be, like `script id`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} {} {}; nothing was sent", self.kind, self.shown, self.problem.explanation())
    }
}

impl std::error::Error for InvalidId {}

fn check(kind: &'static str, text: &str) -> Result<(), InvalidId> {
    match problem(kind, text) {
        None => Ok(()),
        Some(problem) => Err(InvalidId { kind, shown: quoted(text), problem }),
    }
}

fn problem(kind: &str, text: &str) -> Option<IdProblem> {
    if text.len() > MAX_ID_BYTES {
        return Some(IdProblem::TooLong);
    }
    if let Some(problem) = problem_of_form(kind, text) {
        return Some(problem);
    }
    // As it arrives behind whoever decodes it, be that once or twice too often. Each round makes it shorter.
    let (mut form, mut encoded) = (Cow::Borrowed(text), None);
    while let Some(decoded) = decoded(&form) {
        if let Some(problem) = problem_of_form(kind, &decoded) {
            return Some(problem);
        }
        encoded = Some(IdProblem::Encoded);
        form = Cow::Owned(decoded);
    }
    encoded
}

/// What is wrong with a segment of a path that goes out as it is, encoded already.
pub(crate) fn segment_problem(segment: &str) -> Option<IdProblem> {
    // What stands behind a semicolon is dropped by some servers before the path is read.
    let name = segment.split(';').next().filter(|name| !name.is_empty()).unwrap_or(segment);
    let problem =
        |text| problem("id", text).filter(|found| !matches!(found, IdProblem::Encoded | IdProblem::RouteWord));
    problem(segment).or_else(|| problem(name))
}

/// Percent-decoded, if anything in it is encoded.
fn decoded(text: &str) -> Option<String> {
    match percent_decode_str(text).into() {
        Cow::Borrowed(_) => None,
        Cow::Owned(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn problem_of_form(kind: &str, text: &str) -> Option<IdProblem> {
    if text.is_empty() {
        return Some(IdProblem::Empty);
    }
    if text.chars().any(is_hidden) {
        return Some(IdProblem::ControlCharacter);
    }
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Some(IdProblem::Blank);
    }
    if trimmed.len() != text.len() {
        return Some(IdProblem::SurroundingSpace);
    }
    if matches!(text, "." | "..") {
        return Some(IdProblem::DotSegment);
    }
    let is_guid_in_braces = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).is_some_and(is_uuid);
    if is_guid_in_braces || text.starts_with(QUOTES) || text.ends_with(QUOTES) {
        return Some(IdProblem::Quoted);
    }
    if is_placeholder(kind, text) {
        return Some(IdProblem::Placeholder);
    }
    if text.contains(['/', '\\']) {
        return Some(IdProblem::Slash);
    }
    ROUTE_WORDS.iter().any(|word| text.eq_ignore_ascii_case(word)).then_some(IdProblem::RouteWord)
}

const QUOTES: [char; 5] = ['"', '\'', '`', '\u{201C}', '\u{201D}'];

fn is_placeholder(kind: &str, text: &str) -> bool {
    let wrapped = |open: &str, close: &str| {
        text.len() > open.len() + close.len() && text.starts_with(open) && text.ends_with(close)
    };
    // JMeter, Postman, Gatling, Karate, Azure Pipelines: each has its own way to name a variable.
    let opened = ["${", "{{", "#{", "#(", "$(", "@{"].iter().any(|open| text.contains(open));
    if opened || wrapped("<", ">") || wrapped("%", "%") || wrapped("{", "}") {
        return true;
    }
    // The name of the variable itself, as a header row read as data gives: scriptId, script_id, …
    // Compared without building it: every id in an answer passes here.
    let plain = || text.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase());
    let spells = |name: &str| plain().eq(name.bytes().filter(|byte| *byte != b' '));
    let is_name = (spells(kind) || spells("scriptid"))
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':' | b'$' | b' '));
    let nothing = ["null", "(null)", "undefined", "none", "nil", "nan", "[object object]"];
    is_name || nothing.iter().any(|word| text.eq_ignore_ascii_case(word))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $kind:literal)*) => {$(
        $(#[$doc])*
        ///
        /// Parsed with [`str::parse`] or `try_from`; refused, with the reason in [`InvalidId`], when empty,
        /// blank, with white space or quotes around it, with control or invisible characters or a `/` or `\`, a dot segment, over
        /// 256 bytes, a word of the API's routes (`published`, `divisionviews`, `uploads`, `pages`, …), an unresolved placeholder, or
        /// percent-encoded already.
        /// Cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check($kind, text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidId;

            fn try_from(text: &str) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(deserializer)?;
                // That nothing was sent would be no word about an answer.
                let none = |refused: InvalidId| format!("{} is no {}", refused.shown, refused.kind);
                text.parse().map_err(|refused| serde::de::Error::custom(none(refused)))
            }
        }
    )*};
}

ids! {
    /// The id of a script: a UUID in practice, though the service's API definition only says string.
    ///
    /// ```
    /// use genesys_scripts::ScriptId;
    ///
    /// let id: ScriptId = "476c2b71-7429-11e4-9a5b-3f91746bffa3".parse()?;
    /// assert_eq!(id.to_string(), "476c2b71-7429-11e4-9a5b-3f91746bffa3");
    /// assert!("${scriptId}".parse::<ScriptId>().is_err());
    /// assert!("".parse::<ScriptId>().is_err());
    /// # Ok::<(), genesys_scripts::InvalidId>(())
    /// ```
    ScriptId "script id"

    /// The id of a script's page, as [`Page::id`](crate::Page::id) gives it.
    ///
    /// One kind of id cannot be passed for another:
    ///
    /// ```compile_fail,E0308
    /// # async fn example(agent: genesys_scripts::Agent) -> Result<(), Box<dyn std::error::Error>> {
    /// let page: genesys_scripts::PageId = "f8ad2a30-0d1f-11ee-be56-0242ac120002".parse()?;
    /// agent.script(&page).await?;
    /// # Ok(())
    /// # }
    /// ```
    PageId "page id"

    /// The id of a division.
    DivisionId "division id"

    /// The id of a secure flow, which listings can be filtered by.
    FlowId "flow id"

    /// The id of an upload, by which its status is asked.
    UploadId "upload id"

    /// The id of one version of a script.
    VersionId "version id"
}

impl ScriptId {
    /// An id that is known to be one; a test checks it.
    pub(crate) fn known(text: &'static str) -> Self {
        Self(text.into())
    }
}

/// 8-4-4-4-12 hexadecimal digits, as all ids of the service are.
pub(crate) fn is_uuid(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refusal(text: &str) -> Option<IdProblem> {
        text.parse::<ScriptId>().err().map(|refused| refused.problem())
    }

    const REFUSED: &[(&[&str], IdProblem)] = &[
        (&[""], IdProblem::Empty),
        (&[" ", "   "], IdProblem::Blank),
        (&["476c2b71 ", " 476c2b71"], IdProblem::SurroundingSpace),
        (
            &["\t", ".\t.", "a\r\n", "a\0b", "\u{7f}", "\u{FEFF}476c2b71", "a\u{200B}", "\u{202E}x"],
            IdProblem::ControlCharacter,
        ),
        (&[".", "..", "%2e", "%2E%2E", ".%2e", "%252e%252E"], IdProblem::DotSegment),
        (
            &["published", "Published", "DIVISIONVIEWS", "uploads", "pages", "Export", "%70ublished", "p%2575blished"],
            IdProblem::RouteWord,
        ),
        (&["%00", "a%0d%0a", "%EF%BB%BF476c2b71", "a%E2%80%8Bb", "%C2%85"], IdProblem::ControlCharacter),
        (&["%20", "%20%20", "%2520"], IdProblem::Blank),
        (&["476c2b71%20", "%20476c2b71", "%C2%A0476c2b71", "\u{A0}476c2b71"], IdProblem::SurroundingSpace),
        (
            &[
                "/",
                "\\",
                "a/b",
                "a\\b",
                "/476c2b71",
                "476c2b71/",
                "..%2Foauth",
                "..%2f..%2F",
                "%2e%2e/x",
                "%5C",
                "a%5cb",
                "%252F",
                "..;/admin",
                "https://api.mypurecloud.de/api/v2/scripts/476c2b71-7429-11e4-9a5b-3f91746bffa3",
                "//example.com",
                "%68ttps%3A%2F%2Fx",
                "C:\\scripts\\a.script",
            ],
            IdProblem::Slash,
        ),
        (
            &[
                "{476c2b71-7429-11e4-9a5b-3f91746bffa3}",
                "\"476c2b71\"",
                "'476c2b71'",
                "476c2b71\"",
                "\u{201C}476c2b71\u{201D}",
                "%22476c2b71%22",
                "\"",
            ],
            IdProblem::Quoted,
        ),
        (&["476c2b71%2D7429", "a%20b", "%41", "100%25", "%c0%ae", "%c0%ae%c0%ae", "%e4", "%F0%9F"], IdProblem::Encoded),
        (
            &[
                "${scriptId}",
                "x${id}",
                "{{scriptId}}",
                "#{scriptId}",
                "#(scriptId)",
                "$(SCRIPT_ID)",
                "@{script.id}",
                "script-#{id}",
                "%scriptId%",
                "<EOF>",
                "<id>",
                "null",
                "NULL",
                "undefined",
                "scriptId",
                "script_id",
                "script-id",
                "ScriptID",
                ":scriptId",
                "{scriptId}",
                "%3CEOF%3E",
                "%253CEOF%253E",
                "%3cid%3e",
                "%24%7BscriptId%7D",
                "%7B%7Bid%7D%7D",
                "n%75ll",
                "None",
                "nil",
                "NaN",
                "(null)",
                "[object Object]",
            ],
            IdProblem::Placeholder,
        ),
    ];

    #[test]
    fn what_would_reach_another_route_or_was_never_filled_in_is_refused() {
        for (texts, problem) in REFUSED {
            for text in *texts {
                assert_eq!(refusal(text), Some(*problem), "{text:?}");
            }
        }
        assert_eq!(refusal(&"a".repeat(257)), Some(IdProblem::TooLong));
        assert_eq!(refusal(&"a".repeat(256)), None);
    }

    #[test]
    fn the_words_of_the_routes_are_those_of_the_operations() {
        let words: std::collections::BTreeSet<_> = crate::fuzzing::route_words().collect();
        assert_eq!(words, ROUTE_WORDS.into());
    }

    #[test]
    fn what_is_odd_but_harmless_is_accepted_and_encoded() {
        for text in [
            "476c2b71-7429-11e4-9a5b-3f91746bffa3",
            "a?b#c",
            "äöü",
            "a b",
            "...",
            "a..b",
            "50%",
            "%",
            "%%",
            "100%zz",
            "50%-x%2",
            "a\"b'c",
            "...",
            "..a",
            "nullable",
            "publisheds",
            "none-of-them",
        ] {
            let id: ScriptId = text.parse().unwrap();
            let encoded = crate::text::encode_segment(id.as_str());
            assert!(!encoded.contains(['/', '?', '#', ' ']), "{encoded}");
            assert_eq!(percent_decode_str(&encoded).decode_utf8().unwrap(), text);
        }
    }

    #[test]
    fn a_refusal_says_what_and_why_without_raw_control_characters() {
        let refused = "\u{1b}[31mred".parse::<ScriptId>().unwrap_err().to_string();
        assert!(!refused.contains('\u{1b}'), "{refused:?}");
        assert!(refused.contains("script id") && refused.contains("nothing was sent"), "{refused}");
        let long = "x".repeat(100_000).parse::<ScriptId>().unwrap_err().to_string();
        assert!(long.len() < 500, "{}", long.len());
        for (text, kind, why) in [
            ("..", "script id", "the script id \"..\" is a dot segment: the request would have walked up the path"),
            ("", "script id", "is empty: the request would have asked for the list"),
            ("a/b", "script id", "only the last part is the id"),
        ] {
            let refused = text.parse::<ScriptId>().unwrap_err();
            assert_eq!(refused.kind(), kind);
            assert!(refused.to_string().contains(why), "{refused}");
        }
    }

    #[test]
    fn serde_validates() {
        assert!(serde_json::from_str::<ScriptId>(r#""a-b""#).is_ok());
        assert!(serde_json::from_str::<ScriptId>(r#""..""#).is_err());
        assert!(serde_json::from_str::<ScriptId>("7").is_err());
    }
}
