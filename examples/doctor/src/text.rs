//! Text of files as it may be shown: short, on one line, without secrets.

/// What follows these in one word is a secret.
const SECRETS: [&str; 5] = ["token", "secret", "password", "authorization", "cookie"];
/// Longer text is cut.
const LONGEST: usize = 140;

/// What of a file's text may be shown: at most 140 characters, without control characters, and without what stands
/// in the query of an address or looks like a token.
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    let cut = text.char_indices().nth(LONGEST);
    let head = cut.map_or(text, |(at, _)| text.get(..at).unwrap_or(text));
    let mut scheme = false;
    for (i, word) in head.split(' ').enumerate() {
        if i > 0 {
            out.push(' ');
        }
        out.push_str(if scheme { "(hidden)" } else { "" });
        if !scheme {
            out.push_str(&without_secret(word));
        }
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        scheme = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
    }
    let mut clean: String = out.chars().map(|c| if hidden(c) { ' ' } else { c }).collect();
    if cut.is_some() {
        clean.push('…');
    }
    clean
}

/// Control characters move a terminal's cursor; the others turn the direction of text.
fn hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn without_secret(word: &str) -> String {
    // A JSON web token, wherever it stands.
    if let Some(at) = word.find("eyJ")
        && word.len() - at > 20
    {
        return format!("{}(hidden)", word.get(..at).unwrap_or_default());
    }
    match (word.contains("://"), word.split_once('?')) {
        (true, Some((before, _))) => format!("{}?…", without_user(before)),
        (true, None) => without_user(word),
        _ => without_value(word),
    }
}

/// `access_token:"…"` without what it is.
fn without_value(word: &str) -> String {
    let lower = word.to_ascii_lowercase();
    let named = SECRETS.iter().filter_map(|name| lower.find(name).map(|at| at + name.len())).min();
    if let Some(end) = named
        && let Some(value) = word.get(end..).and_then(|rest| rest.find([':', '=']))
        && word.len() > end + value + 1
    {
        return format!("{}(hidden)", word.get(..=end + value).unwrap_or_default());
    }
    word.to_owned()
}

/// `https://user:password@host/` without the user.
fn without_user(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}{path}"),
        None => address.to_owned(),
    }
}

/// `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `40.0 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `p = 0.0012`, or below what so many draws can show.
pub fn p_value(p: f64) -> String {
    if p < 0.000_1 { "p < 0.0001".to_owned() } else { format!("p = {p:.4}") }
}

/// `1 row`, `2 rows`.
pub fn many(n: u64, one: &str, more: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_no_secret_and_no_control_character() {
        assert_eq!(shown("a\u{1b}[31mb"), "a [31mb");
        assert_eq!(shown("https://u:pw@h.test/x?access_token=abc"), "https://h.test/x?…");
        assert!(!shown("Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.x").contains("eyJ"));
        assert_eq!(shown(r#"{"access_token":"abc","expires_in":1}"#), r#"{"access_token":(hidden)"#);
        assert_eq!(shown("sent Authorization: Bearer abc to it"), "sent Authorization: Bearer (hidden) to it");
        assert_eq!(shown("an invalid token: ask again"), "an invalid token: ask again");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 141);
    }

    #[test]
    fn counts_in_groups_of_three() {
        assert_eq!((count(7), count(1_234), count(1_234_567)), ("7".into(), "1,234".into(), "1,234,567".into()));
    }
}
