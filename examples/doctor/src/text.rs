//! Text of files as it may be shown: short, on one line, without secrets.

/// What is called so is a secret.
const SECRETS: [&str; 17] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "authorization",
    "cookie",
    "sessionid",
    "credential",
    "credentials",
    "apikey",
    "api-key",
    "api_key",
    "accesskey",
    "access_key",
    "private_key",
];
/// Words before a secret that say of which kind it is.
const SCHEMES: [&str; 5] = ["bearer", "basic", "digest", "negotiate", "apikey"];
/// Longer text is cut.
const LONGEST: usize = 140;

/// Whether what is called so is a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    SECRETS.iter().any(|secret| lower.contains(secret))
}

/// The words of a text in lower case, with a blank before and after each; of `aName` there are two.
pub(crate) fn words(text: &str) -> String {
    let mut out = " ".to_owned();
    let mut before = ' ';
    for c in text.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && before.is_lowercase()) {
            out.push(' ');
        }
        if c.is_alphanumeric() {
            out.extend(c.to_lowercase());
        }
        before = c;
    }
    out.push(' ');
    let words: Vec<&str> = out.split(' ').filter(|word| !word.is_empty()).collect();
    format!(" {} ", words.join(" "))
}

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
            let (show, then) = next.step(word);
            out.push_str(&show);
            next = then;
        }
    }
    let mut clean: String = out.chars().map(|c| if hidden(c) { ' ' } else { c }).collect();
    if cut.is_some() {
        clean.push('…');
    }
    clean
}

const HIDDEN: &str = "(hidden)";

/// What the word after a word is.
#[derive(PartialEq)]
enum Next {
    Word,
    /// A secret, after a sign: `"access_token" : …`.
    Value,
    Secret,
    /// A secret of several words, up to this.
    Until(char),
    /// A secret, and as many more as end in a semicolon.
    Cookies,
}

impl Next {
    /// What is shown of this word, and what the one after it is.
    fn step(&self, word: &str) -> (String, Self) {
        let sign = matches!(word, ":" | "=");
        let hide = |then| (HIDDEN.to_owned(), then);
        match self {
            Self::Value | Self::Secret if sign => (word.to_owned(), Self::Secret),
            Self::Secret if SCHEMES.iter().any(|scheme| plain(word).eq_ignore_ascii_case(scheme)) => {
                (word.to_owned(), Self::Secret)
            }
            Self::Secret => hide(Self::rest_of(word)),
            Self::Until(quote) if word.contains(*quote) => hide(Self::Word),
            Self::Until(quote) => hide(Self::Until(*quote)),
            Self::Cookies => hide(if word.ends_with(';') { Self::Cookies } else { Self::Word }),
            Self::Word | Self::Value => {
                let (show, secret) = without_secret(word);
                (show, secret.map_or_else(|| Self::after(word), Self::rest_of))
            }
        }
    }

    /// After a secret, or its first word.
    fn rest_of(secret: &str) -> Self {
        match secret.chars().next() {
            Some(quote @ ('"' | '\'')) if secret.matches(quote).count() == 1 => Self::Until(quote),
            _ => Self::Word,
        }
    }

    fn after(word: &str) -> Self {
        if SCHEMES.iter().take(2).any(|scheme| plain(word).eq_ignore_ascii_case(scheme)) {
            return Self::Secret;
        }
        let name = word.trim_end_matches([':', '=']);
        let bare = name.trim_matches(['"', '\'']);
        let lower = bare.to_ascii_lowercase();
        if !SECRETS.iter().any(|secret| lower.ends_with(secret)) {
            return Self::Word;
        }
        // A name in quotes, with an underscore, as headers have it or with a value is one of data, and not of a sentence.
        let of_header = bare.contains('-') || bare.starts_with(|c: char| c.is_ascii_uppercase());
        let of_data = name.ends_with(['"', '\'']) || name.contains('_') || of_header || word.ends_with('=');
        match (name.len() < word.len(), of_data) {
            (false, _) => Self::Value,
            (true, false) => Self::Word,
            (true, true) if lower.ends_with("cookie") => Self::Cookies,
            (true, true) => Self::Secret,
        }
    }
}

fn plain(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

/// Control characters move a terminal's cursor; the others turn the direction of text.
fn hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What may be shown of a word, and the secret in it that was left out.
fn without_secret(word: &str) -> (String, Option<&str>) {
    // A JSON web token, wherever it stands.
    if let Some(at) = word.find("eyJ")
        && word.len() - at > 20
    {
        return (format!("{}{HIDDEN}", word.get(..at).unwrap_or_default()), None);
    }
    let address = word.contains("://") || word.starts_with('/');
    match word.find(['?', '#', ';']).filter(|at| address && at + 1 < word.len()) {
        Some(at) => (format!("{}…", without_user(word.get(..=at).unwrap_or_default())), None),
        None if word.contains("://") => (without_user(word), None),
        None => without_value(word),
    }
}

/// `access_token:"…"` without what it is.
fn without_value(word: &str) -> (String, Option<&str>) {
    let lower = word.to_ascii_lowercase();
    let named = SECRETS.iter().filter_map(|name| lower.find(name).map(|at| at + name.len())).min();
    if let Some(end) = named
        && let Some(sign) = word.get(end..).and_then(|rest| rest.find([':', '=']))
        && let Some(value) = word.get(end + sign + 1..).filter(|value| !value.is_empty())
    {
        return (format!("{}{HIDDEN}", word.get(..=end + sign).unwrap_or_default()), Some(value));
    }
    (word.to_owned(), None)
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
            "Cookie: JSESSIONID=s3cr3t",
            "sent Cookie: a=b; JSESSIONID=s3cr3t; c=s3cr3t to it",
            "Set-Cookie: JSESSIONID=s3cr3t; Path=/",
            "JSESSIONID=s3cr3t",
            "X-Api-Key: s3cr3t",
            "x-api-key:s3cr3t",
            "api_key=s3cr3t",
            "pwd=s3cr3t",
            "pwd = s3cr3t",
            "Password: s3cr3t",
            "Authorization: s3cr3t",
            "Authorization: ApiKey s3cr3t",
            r#"{"password": "one s3cr3t two", "x": 1}"#,
            r#"{"password":"one s3cr3t two","x":1}"#,
            "https://h.test/x;jsessionid=s3cr3t",
            "https://h.test/#access_token=s3cr3t",
            "/x?key=s3cr3t",
        ] {
            assert!(!shown(text).contains("s3cr3t"), "{text}: {}", shown(text));
        }
        assert_eq!(shown(r#"{"password": "a b", "x": 1}"#), r#"{"password": (hidden) (hidden) "x": 1}"#);
        assert_eq!(shown("no token; the password was: none given"), "no token; the password was: none given");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 141);
    }

    #[test]
    fn words_are_told_apart_however_they_are_joined() {
        assert_eq!(words("TooManyRequests: API_limit, 2x"), " too many requests api limit 2x ");
        assert_eq!(words(""), "  ");
    }

    #[test]
    fn counts_in_groups_of_three() {
        assert_eq!((count(7), count(1_234), count(1_234_567)), ("7".into(), "1,234".into(), "1,234,567".into()));
    }
}
