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
    let mut next = Next::Word;
    for (i, word) in head.split(char::is_whitespace).enumerate() {
        if i > 0 {
            out.push(' ');
        }
        // Of two blanks the second changes nothing.
        if !word.is_empty() {
            let sign = matches!(word, ":" | "=");
            let hide = next == Next::Secret && !sign;
            out.push_str(&if hide { "(hidden)".to_owned() } else { without_secret(word) });
            next = match next {
                Next::Value | Next::Secret if sign => Next::Secret,
                _ => Next::after(word),
            };
        }
    }
    let mut clean: String = out.chars().map(|c| if hidden(c) { ' ' } else { c }).collect();
    if cut.is_some() {
        clean.push('…');
    }
    clean
}

/// What the word after a word is.
#[derive(PartialEq)]
enum Next {
    Word,
    /// A secret, after a sign: `"access_token" : …`.
    Value,
    Secret,
}

impl Next {
    fn after(word: &str) -> Self {
        let plain = word.trim_matches(|c: char| !c.is_alphanumeric());
        if plain.eq_ignore_ascii_case("bearer") || plain.eq_ignore_ascii_case("basic") {
            return Self::Secret;
        }
        // A name in quotes or with an underscore is one of data, and not of a sentence.
        let name = word.trim_end_matches([':', '=']);
        let lower = name.trim_matches(['"', '\'']).to_ascii_lowercase();
        let of_data = name.ends_with(['"', '\'']) || name.contains('_');
        match SECRETS.iter().any(|secret| lower.ends_with(secret)) && of_data {
            true if name.len() < word.len() => Self::Secret,
            true => Self::Value,
            false => Self::Word,
        }
    }
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
        for text in [
            r#"{"access_token": "s3cr3t"}"#,
            r#"{ "refresh_token" :  "s3cr3t", "x": 1 }"#,
            "client_secret = s3cr3t",
            "Authorization:  Bearer  s3cr3t",
            "Authorization: Bearer\ts3cr3t",
            "Bearer \"s3cr3t\"",
        ] {
            assert!(!shown(text).contains("s3cr3t"), "{text}: {}", shown(text));
        }
        assert_eq!(shown("no token; the password was: none given"), "no token; the password was: none given");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 141);
    }

    #[test]
    fn counts_in_groups_of_three() {
        assert_eq!((count(7), count(1_234), count(1_234_567)), ("7".into(), "1,234".into(), "1,234,567".into()));
    }
}
