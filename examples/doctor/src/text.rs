//! Text of files as it may be shown: short, on one line, without secrets.

/// Longer text is cut.
const LONGEST: usize = 140;

/// What of a file's text may be shown: at most 140 characters, without control characters, and without what stands
/// in the query of an address or looks like a token.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::new();
    let cut = text.char_indices().nth(LONGEST);
    let head = cut.map_or(text, |(at, _)| text.get(..at).unwrap_or(text));
    for (i, word) in head.split(' ').enumerate() {
        if i > 0 {
            out.push(' ');
        }
        out.push_str(&without_secret(word));
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
        _ => word.to_owned(),
    }
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
pub(crate) fn count(n: u64) -> String {
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
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `p = 0.0012`, or below what so many draws can show.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.000_1 { "p < 0.0001".to_owned() } else { format!("p = {p:.4}") }
}

/// `1 row`, `2 rows`.
pub(crate) fn many(n: u64, one: &str, more: &str) -> String {
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
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 141);
    }

    #[test]
    fn counts_in_groups_of_three() {
        assert_eq!((count(7), count(1_234), count(1_234_567)), ("7".into(), "1,234".into(), "1,234,567".into()));
    }
}
