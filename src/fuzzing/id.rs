//! Ids: each is refused, or one segment of a path.

use std::fmt::Display;
use std::str::FromStr;

use http::header::HeaderValue;
use reqwest::{Request, Url};

use super::{decoded, is_printable, route_words};
use crate::id::{DivisionId, InvalidId, PageId, ScriptId, UploadId, is_uuid};
use crate::region::base_url;
use crate::request::{self, Site, Spec};

/// An id of any kind is refused with a reason a person can read, or becomes exactly one path segment that decodes to it.
///
/// Each line, of the first dozen, is tried as an id, and all of them together as one.
pub fn id(data: &[u8]) {
    let base = base_url("api", "https://api.example.com/prefix/").expect("a base");
    let site = Site::new(base, HeaderValue::from_static("fuzz"));
    let text = String::from_utf8_lossy(data);
    for text in text.lines().take(12).chain([&*text]) {
        refused_or_one_segment::<ScriptId>(text, "scripts/{}", |id| {
            site.request(&Spec::of(&request::GET_SCRIPT, &[id]))
        });
        refused_or_one_segment::<PageId>(text, "scripts/s/pages/{}", |id| {
            site.request(&Spec::of(&request::GET_SCRIPT_PAGE, &["s", id]))
        });
        refused_or_one_segment::<UploadId>(text, "scripts/uploads/{}/status", |id| {
            site.request(&Spec::of(&request::GET_UPLOAD_STATUS, &[id]))
        });
        refused_or_one_segment::<DivisionId>(text, "authorization/divisions/{}/objects/SCRIPT", |id| {
            site.request(&Spec::of(&request::MOVE_TO_DIVISION, &[id, "SCRIPT"]))
        });
    }
}

fn refused_or_one_segment<T>(text: &str, path: &str, request: impl Fn(&str) -> Request)
where
    T: FromStr<Err = InvalidId> + Display,
{
    let id: T = match text.parse() {
        Ok(id) => id,
        Err(refused) => {
            let reason = refused.to_string();
            assert!(is_printable(&reason), "{reason:?}");
            assert!(reason.len() < 2_500, "a reason of {} bytes", reason.len());
            assert!(reason.contains(refused.kind()) && reason.contains("nothing was sent"), "{reason}");
            assert!(!is_uuid(text), "a UUID was refused: {reason}");
            return;
        }
    };
    assert_eq!(id.to_string(), text);
    assert!(text.len() <= 256 && text.trim() == text && is_printable(text), "accepted {text:?}");
    assert!(!text.contains(['/', '\\']) && decoded(text) == text, "accepted {text:?}");
    let url = request(text).url().clone();
    assert_eq!((url.query(), url.fragment()), (None, None), "{text:?} left its path: {url}");
    let (before, after) = path.split_once("{}").expect("a place for the id");
    let segment = url.path().strip_prefix("/prefix/api/v2/").and_then(|below| below.strip_prefix(before));
    let segment = segment.and_then(|rest| rest.strip_suffix(after)).unwrap_or_else(|| panic!("{text:?}: {url}"));
    assert!(!segment.contains(['/', '\\']), "{text:?} is more than a segment: {url}");
    assert_eq!(decoded(segment), text, "{url}");
    // Nor may it walk up, or be another route, behind a gateway that decodes once more than it should.
    for form in [segment, &decoded(segment), &decoded(&decoded(segment))] {
        assert!(!matches!(form, "" | "." | ".."), "{text:?} is a dot segment: {url}");
        assert!(!route_words().any(|word| form.eq_ignore_ascii_case(word)), "{text:?} is a route's word: {url}");
        assert!(!is_placeholder(form), "{text:?} is a placeholder: {url}");
    }
    assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(&url), "the URL reads back as another");
}

/// What a tool sends that put nothing in its variable's place.
fn is_placeholder(text: &str) -> bool {
    let wrapped =
        [("${", "}"), ("{{", "}}"), ("#{", "}"), ("#(", ")"), ("$(", ")"), ("{", "}"), ("<", ">"), ("%", "%")];
    let is_wrapped = |(open, close): (&str, &str)| {
        text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)).is_some_and(|name| !name.is_empty())
    };
    let words = ["null", "undefined", "none", "nil", "nan", "[object Object]", "scriptId", "script_id", ":scriptId"];
    wrapped.into_iter().any(is_wrapped) || words.iter().any(|word| text.eq_ignore_ascii_case(word))
}
