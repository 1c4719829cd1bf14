//! Text made fit for where it goes: escaped and cut to be shown, free of secrets to be kept, encoded to be a path's segment.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The most of it that a line shows, in bytes before escaping.
const SHOWN_BYTES: usize = 300;

/// Escaped and cut, without quotation marks: for codes and ids.
pub(crate) fn shown(text: &str) -> String {
    let (head, cut) = head(text, SHOWN_BYTES);
    let mut escaped: String = head.chars().flat_map(escape).collect();
    if cut {
        escaped.push('…');
    }
    escaped
}

/// Escaped, cut and quoted: for anything a person or the service wrote.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text))
}

/// Control characters, line and direction marks escaped: nothing a terminal obeys gets through.
fn escape(c: char) -> impl Iterator<Item = char> {
    let hidden = c.is_control()
        || matches!(c, '\u{00AD}' | '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}');
    let (escaped, plain) = if hidden { (Some(c.escape_default()), None) } else { (None, Some(c)) };
    escaped.into_iter().flatten().chain(plain)
}

/// The first `limit` bytes, cut at a character's end, and whether anything was cut.
pub(crate) fn head(text: &str, limit: usize) -> (&str, bool) {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    match end.and_then(|end| text.get(..end)) {
        Some(head) if head.len() < text.len() => (head, true),
        _ => (text, false),
    }
}

/// A credential shorter than this could be any word of an honest message; nobody's is.
const SHORTEST_SECRET: usize = 4;

/// The text without the secrets, in case the service echoes one: as they are, and as they look in JSON
/// and in a form.
pub(crate) fn redact(text: &str, secrets: &[&str]) -> String {
    let mut clean = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= SHORTEST_SECRET) {
        let json = serde_json::to_string(secret).unwrap_or_default();
        let forms = [(*secret).to_owned(), json.trim_matches('"').to_owned(), encode_segment(secret).into_owned()];
        for form in forms {
            if clean.contains(&form) {
                clean = clean.replace(&form, "[REDACTED]");
            }
        }
    }
    clean
}

/// Everything but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One path segment, percent-encoded. Callers validate first: `..` passes through unchanged.
pub(crate) fn encode_segment(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, ENCODED).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_terminal_obeys_gets_through_and_long_text_is_cut() {
        let shown = quoted("\u{1b}]0;owned\u{7}\r\n\u{202E}evil\u{9b}31m");
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202E}'), "{shown:?}");
        assert!(quoted(&"é".repeat(5000)).len() < 400);
        assert_eq!(quoted("ä \"b\""), "\"ä \"b\"\"");
    }

    #[test]
    fn an_echoed_secret_is_removed_in_each_of_its_forms() {
        let secret = "p\"w/d+1";
        let json = serde_json::json!({ "m": format!("bad {secret}") }).to_string();
        for text in [format!("x {secret} y"), json, "pw=p%22w%2Fd%2B1&".to_owned()] {
            let clean = redact(&text, &[secret]);
            assert!(clean.contains("[REDACTED]") && !clean.contains("w/d") && !clean.contains("w%2Fd"), "{clean}");
        }
    }
}
