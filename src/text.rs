//! Text made fit for where it goes: escaped and cut to be shown, free of secrets to be kept, encoded to be a path's segment.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;

/// The most of it that a line shows, in bytes before escaping.
const SHOWN_BYTES: usize = 300;

/// Escaped and cut, without quotation marks: for codes and ids.
pub(crate) fn shown(text: &str) -> String {
    let (head, cut) = head(text, SHOWN_BYTES);
    let mut escaped = String::with_capacity(head.len());
    for c in head.chars() {
        // Nothing a terminal obeys gets through; U+FE0F makes an emoji of the character before it.
        if is_hidden(c) && c != '\u{FE0F}' { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    if cut {
        escaped.push('…');
    }
    escaped
}

/// Escaped, cut and quoted: for anything a person or the service wrote.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text))
}

/// Whether nobody would see it, or a terminal would obey it.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}')
        || matches!(c, '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
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
/// Base64 of less is too short to be told from a word.
const SHORTEST_IN_BASE64: usize = 8;
/// So many spellings are seen through, one inside the other: JSON in JSON, a form's value in a page.
const SPELLINGS: usize = 4;
/// No escape is longer.
const ESCAPE_BYTES: usize = 10;
/// No escape without an end of its own has more behind its mark: that of `\u1234`.
const TAKEN_BYTES: usize = 5;

/// The text without the secrets, in case the service echoes one: as they are, in base64, and in whatever spelling JSON, a
/// form, a URL or a page has for them, one inside the other too. Of a secret that the text's end cuts, what is there.
///
/// The spellings go with the secret, so JSON stays JSON.
pub(crate) fn redact(text: &str, secrets: &[&str]) -> String {
    let secrets = secrets.iter().filter(|secret| secret.len() >= SHORTEST_SECRET);
    let forms: Vec<String> = secrets.flat_map(|secret| forms(secret)).collect();
    let mut found = Vec::new();
    let mut spelled = (!forms.is_empty()).then(|| Spelled::of(text));
    for _ in 0..=SPELLINGS {
        let Some(this) = spelled else { break };
        forms.iter().for_each(|form| this.find(form, &mut found));
        spelled = this.read();
    }
    found.sort_unstable();
    let mut clean = String::with_capacity(text.len());
    let mut copied = 0;
    for (from, to) in found {
        if from >= copied {
            clean.push_str(text.get(copied..from).unwrap_or_default());
            clean.push_str("[REDACTED]");
        }
        copied = copied.max(to);
    }
    clean.push_str(text.get(copied..).unwrap_or_default());
    clean
}

/// What of a signed URL an answer must not be let echo: its path, as storage names a file by it too, its query, and the query's
/// values but for short words.
pub(crate) fn secrets_of(url: &Url) -> Vec<String> {
    let path = url.path();
    // One word alone may be any.
    let key = path.strip_prefix('/').filter(|key| key.contains(['/', '.']));
    let whole = [Some(path), key, url.query()].into_iter().flatten().map(str::to_owned);
    let values = url.query_pairs().map(|(_, value)| value.into_owned());
    whole.chain(values).filter(|secret| secret.len() >= 8).collect()
}

/// How a secret looks once no escape is left: also with a form's pluses for blanks, or as who reads such a form would
/// have it, and as base64 of something that holds it, which three places in a group of three bytes make three of.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), secret.replace(' ', "+"), secret.replace('+', " ")];
    let mut read = Spelled::of(secret).read();
    for _ in 0..=SPELLINGS {
        let Some(this) = read else { break };
        forms.push(this.text.clone());
        read = this.read();
    }
    for before in 0..3 {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(secret.as_bytes());
        // The first and the last character hold bits of what stands around it as well.
        let own = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
        for encoded in [BASE64_STANDARD.encode(&bytes), BASE64_URL_SAFE.encode(&bytes)] {
            let own = encoded.get(own.clone()).filter(|_| secret.len() >= SHORTEST_IN_BASE64);
            forms.extend(own.map(str::to_owned));
        }
    }
    forms.retain(|form| form.len() >= SHORTEST_SECRET);
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// A text, and from where in the original each byte of it was read.
struct Spelled {
    text: String,
    /// One more than bytes: the end.
    from: Vec<usize>,
}

impl Spelled {
    fn of(text: &str) -> Self {
        Self { text: text.to_owned(), from: (0..=text.len()).collect() }
    }

    /// One layer of escapes read; None where there is none.
    fn read(&self) -> Option<Self> {
        if !self.text.contains(['\\', '%', '&']) {
            return None;
        }
        let mut read = Self { text: String::with_capacity(self.text.len()), from: Vec::with_capacity(self.from.len()) };
        let (mut at, mut escapes) = (0, 0);
        while let Some(c) = self.text.get(at..).and_then(|rest| rest.chars().next()) {
            let escape = self.text.get(at..).and_then(escape_read);
            escapes += usize::from(escape.is_some());
            let (c, length) = escape.unwrap_or((c, c.len_utf8()));
            read.text.push(c);
            read.from.resize(read.text.len(), self.origin(at));
            at += length;
        }
        read.from.push(self.origin(at));
        (escapes > 0).then_some(read)
    }

    fn origin(&self, at: usize) -> usize {
        self.from.get(at).or(self.from.last()).copied().unwrap_or_default()
    }

    /// Notes where in the original the secret stands, or begins and is cut.
    fn find(&self, secret: &str, found: &mut Vec<(usize, usize)>) {
        let text = self.text.as_str();
        // A `%` or a backslash that happens to stand before it may have taken the first of it for an escape's own.
        let (head, tail) =
            secret.split_at_checked(TAKEN_BYTES).filter(|(_, tail)| tail.len() >= 8).unwrap_or(("", secret));
        found.extend(text.match_indices(tail).map(|(at, _)| {
            let before = text.get(..at).unwrap_or_default();
            let mut heads = head.char_indices().filter_map(|(from, _)| head.get(from..));
            let there = heads.find(|head| before.ends_with(head)).map_or(0, str::len);
            (self.origin(at - there), self.origin(at + tail.len()))
        }));
        // The cut may be in an escape, or in one of an escape's own characters.
        let last = text.char_indices().rev().take(ESCAPE_BYTES).filter(|(_, c)| matches!(c, '\\' | '%' | '&'));
        for end in last.map(|(at, _)| at).chain([text.len()]) {
            let text = text.get(..end).unwrap_or_default();
            let mut heads = (SHORTEST_SECRET..secret.len()).rev().filter_map(|length| secret.get(..length));
            if let Some(cut) = heads.find(|head| text.ends_with(head)) {
                found.push((self.origin(end - cut.len()), self.origin(self.text.len())));
            }
        }
    }
}

/// The character that an escape of JSON, of a URL, of a page or of Rust's own words at the text's head stands for, and how
/// long the escape is. Characters beyond ASCII are none of a credential.
fn escape_read(text: &str) -> Option<(char, usize)> {
    // Not beyond the longest escape: of a text of nothing but their beginnings the rest would be read for each.
    let until = |start: usize, end: u8| {
        let inside = text.get(start..)?;
        let length = inside.bytes().take(ESCAPE_BYTES.saturating_sub(start)).position(|byte| byte == end)?;
        Some((inside.get(..length)?, start + length + 1))
    };
    if let Some(escaped) = text.strip_prefix('\\') {
        return match escaped.chars().next()? {
            'u' if escaped.starts_with("u{") => {
                until(3, b'}').and_then(|(digits, end)| Some((number(digits, 16)?, end)))
            }
            'u' => Some((number(text.get(2..6)?, 16)?, 6)),
            'x' => Some((number(text.get(2..4)?, 16)?, 4)),
            'n' => Some(('\n', 2)),
            'r' => Some(('\r', 2)),
            't' => Some(('\t', 2)),
            plain @ ('"' | '\\' | '/' | '\'') => Some((plain, 2)),
            _ => None,
        };
    }
    if text.starts_with('%') {
        return number(text.get(1..3)?, 16).filter(char::is_ascii).map(|c| (c, 3));
    }
    let (name, end) = text.starts_with('&').then(|| until(1, b';')).flatten()?;
    Some((entity(name)?, end))
}

fn number(digits: &str, radix: u32) -> Option<char> {
    u32::from_str_radix(digits, radix).ok().and_then(char::from_u32).filter(|_| !digits.starts_with('+'))
}

/// The character that an entity of a page stands for, by the name between `&` and `;`.
pub(crate) fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        "ndash" | "mdash" => Some('–'),
        _ => {
            let digits = name.strip_prefix('#')?;
            digits.strip_prefix(['x', 'X']).map_or_else(|| number(digits, 10), |hex| number(hex, 16))
        }
    }
}

/// Everything but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One path segment, percent-encoded. Callers validate first: `..` passes through unchanged.
pub(crate) fn encode_segment(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, ENCODED).into()
}

/// With U+FFFD for each escape of half a character beside which the other half is not; none where there is no such escape.
pub(crate) fn without_halves(json: &[u8]) -> Option<Vec<u8>> {
    let unit =
        |json: &[u8]| u16::from_str_radix(std::str::from_utf8(json.strip_prefix(br"\u")?.get(..4)?).ok()?, 16).ok();
    let is_low = |unit: u16| (0xDC00..=0xDFFF).contains(&unit);
    let (mut whole, mut rest, mut found) = (Vec::with_capacity(json.len()), json, false);
    while let Some(first) = rest.first() {
        let (length, is_half) = match unit(rest) {
            Some(0xD800..=0xDBFF) if rest.get(6..).and_then(unit).is_some_and(is_low) => (12, false),
            Some(0xD800..=0xDFFF) => (6, true),
            _ => (if *first == b'\\' { 2 } else { 1 }, false),
        };
        let (part, more) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        whole.extend_from_slice(if is_half { br"\ufffd" } else { part });
        found |= is_half;
        rest = more;
    }
    found.then_some(whole)
}

/// The text of a body: in UTF-16 where that is said or seen, else in UTF-8 as far as it is, or in Latin-1 where that is said.
pub(crate) fn decoded(bytes: &[u8], content_type: &str) -> String {
    let big = match bytes {
        [0xFE, 0xFF, ..] => Some(true),
        [0xFF, 0xFE, ..] => Some(false),
        [0, other, ..] if *other != 0 => Some(true),
        [other, 0, ..] if *other != 0 => Some(false),
        _ if content_type.contains("utf-16be") => Some(true),
        _ if content_type.contains("utf-16") => Some(false),
        _ => None,
    };
    let Some(big) = big else {
        let is_latin = ["8859-1", "windows-1252"].iter().any(|name| content_type.contains(name));
        return match is_latin && std::str::from_utf8(bytes).is_err() {
            true => bytes.iter().copied().map(char::from).collect(),
            false => String::from_utf8_lossy(bytes).into_owned(),
        };
    };
    let unit = |pair: &[u8]| {
        let pair = pair.try_into().unwrap_or_default();
        if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
    };
    String::from_utf16_lossy(&bytes.chunks_exact(2).map(unit).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice)]
    use super::*;

    #[test]
    fn nothing_a_terminal_obeys_gets_through_and_long_text_is_cut() {
        let shown = quoted("\u{1b}]0;owned\u{7}\r\n\u{202E}evil\u{9b}31m");
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202E}'), "{shown:?}");
        assert_eq!(quoted("\u{260E}\u{FE0F} Hotline"), "\"\u{260E}\u{FE0F} Hotline\"");
        assert_eq!(quoted("ok\u{E0041}\u{180E}\u{FFF9}"), r#""ok\u{e0041}\u{180e}\u{fff9}""#);
        assert!(quoted(&"é".repeat(5000)).len() < 400);
        assert_eq!(quoted("ä \"b\""), "\"ä \"b\"\"");
    }

    /// One of each character that some spelling has an escape for.
    const SECRET: &str = r#"s3cr3t/p+w=d&x<y>"z" \ 'end"#;

    /// The secret as JSON, forms, pages and so on would have it, each spelled from the one before too.
    fn spellings() -> Vec<String> {
        let json = |text: &str| serde_json::to_string(text).unwrap().trim_matches('"').to_owned();
        let each = |escape: &dyn Fn(char) -> String| SECRET.chars().map(escape).collect::<String>();
        let once = vec![
            SECRET.to_owned(),
            json(SECRET),
            json(SECRET).replace('/', "\\/"),
            each(&|c| format!("\\u{:04x}", u32::from(c))),
            each(&|c| format!("\\u{:04X}", u32::from(c))),
            each(&|c| if c.is_alphanumeric() { c.to_string() } else { format!("\\u{:04X}", u32::from(c)) }),
            encode_segment(SECRET).into_owned(),
            encode_segment(SECRET).to_lowercase(),
            encode_segment(SECRET).replace("%20", "+"),
            each(&|c| format!("%{:02X}", u32::from(c))),
            SECRET.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;"),
            each(&|c| format!("&#x{:x};", u32::from(c))),
            each(&|c| format!("&#{};", u32::from(c))),
            format!("{SECRET:?}").trim_matches('"').to_owned(),
            SECRET.escape_unicode().to_string(),
            SECRET.replace('+', " "),
        ];
        let bases = ["", "i", "id:", "client:"].into_iter().flat_map(|before| {
            let whole = format!("{before}{SECRET}");
            [BASE64_STANDARD.encode(&whole), BASE64_URL_SAFE.encode(&whole).trim_end_matches('=').to_owned()]
        });
        let once: Vec<_> = once.into_iter().chain(bases).collect();
        let twice = once.iter().flat_map(|spelled| {
            [json(spelled), json(&json(spelled)), encode_segment(spelled).into_owned(), spelled.replace('&', "&amp;")]
        });
        once.iter().cloned().chain(twice).collect()
    }

    #[test]
    fn an_echoed_secret_is_removed_in_every_spelling_and_wherever_it_is_cut() {
        for spelled in spellings() {
            let text = format!("before {spelled} after {spelled}");
            let clean = redact(&text, &[SECRET]);
            let rest = clean.replace("[REDACTED]", "");
            assert!(clean.starts_with("before ") && clean.contains(" after "), "{text}: {clean}");
            assert_eq!(clean.matches("[REDACTED]").count(), 2, "{text}: {clean}");
            // Of base64, the characters at both ends are shared with what stands around it.
            assert!(rest.len() <= "before  after ".len() + 2 * 20, "{text}: {clean}");
            for end in text.char_indices().map(|(at, _)| at).filter(|at| *at > text.len() - spelled.len()) {
                let clean = redact(&text[..end], &[SECRET]);
                let rest = clean.rsplit_once(" after ").unwrap().1.replace("[REDACTED]", "");
                // Less than the shortest secret, or the head of base64 that is not the secret's own.
                assert!(rest.len() < 4 * 18, "{}: {clean}", &text[..end]);
                assert!(!rest.contains("s3cr3t") && !rest.contains("s3cr"), "{}: {clean}", &text[..end]);
            }
        }
    }

    #[test]
    fn a_mark_that_happens_to_stand_before_a_secret_does_not_hide_it() {
        for mark in ["%", "\\", "\\x", "\\u", "&", "%25", "\\\\u"] {
            for secret in ["5ecret~of.the-request", "abcdef0123456789abcdef", "nobody's token"] {
                for spelled in [secret.to_owned(), encode_segment(secret).into_owned()] {
                    let clean = redact(&format!("before {mark}{spelled} after"), &[secret]);
                    assert!(
                        clean.contains("[REDACTED] after") && !clean.contains(&secret[4..8]),
                        "{mark}{spelled}: {clean}"
                    );
                }
            }
        }
    }

    /// Read to the end for each, a mebibyte of them would take an hour.
    #[test]
    fn the_beginnings_of_escapes_are_read_once() {
        for beginning in ["&", "\\u{", "%", "\\"] {
            let text = beginning.repeat((1 << 20) / beginning.len());
            assert_eq!(redact(&text, &[SECRET]).len(), text.len());
        }
        // Nor is a secret looked for in more spellings than are seen through.
        assert!(forms(&format!("s3cr3t%{}41", "25".repeat(1_000))).len() < 20);
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        for text in [
            "",
            "100 % sure & \\ %zz &nope; \\u12 \\q é%C3%A9",
            r#"{"message":"a \"b\" \u00e9 c\/d","code":"x"}"#,
            "%",
            "\\",
            "&",
            "AAA",
        ] {
            assert_eq!(redact(text, &[SECRET, "abc", "", "longer-than-all-of-it", "%41%41"]), text);
        }
        let json = serde_json::json!({ SECRET: [SECRET, { "m": format!("x{SECRET}y") }] }).to_string();
        let clean: serde_json::Value = serde_json::from_str(&redact(&json, &[SECRET])).unwrap();
        assert_eq!(clean, serde_json::json!({ "[REDACTED]": ["[REDACTED]", { "m": "x[REDACTED]y" }] }));
    }

    #[test]
    fn a_signed_url_is_its_path_its_query_and_the_querys_values() {
        let url = Url::parse("https://h/exports/0a1b.script?X-Sig=aB%2Bc%2F12345&Expires=60").unwrap();
        for text in [
            "/exports/0a1b.script",
            "exports/0a1b.script",
            "aB+c/12345",
            "aB%2bc%2f12345",
            "X-Sig=aB%2Bc%2F12345&amp;Expires=60",
        ] {
            let secrets = secrets_of(&url);
            let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
            let clean = redact(&format!("<Error>{text}</Error>"), &secrets);
            assert!(!clean.contains("12345") && !clean.contains("0a1b"), "{clean}");
        }
    }
}
