//! A text as the words it is made of, and whether they say a thing: whole words, in their order, within a sentence.

use super::page::unescaped;
use crate::text::head;

/// Ends a sentence.
const END: &str = ".";
/// No more words are listened to.
const MOST_WORDS: usize = 600;
/// Stands for what is quoted: data, which says nothing by itself.
const DATA: &str = "…";
/// So many other words may stand where a pattern has `..`, none of which turns it into its opposite or into a guess.
const GAP: usize = 8;
/// After a "no" only such words may: in other languages it says something else.
const OF_NO: &str = "valid|active|current|existing|such|required|matching|access|api|auth|authentication|authorization|bearer|security|user|request|accept|content|type|host|x";
const TURNING: [&str; 11] =
    ["not", "no", "never", "without", "nor", "neither", "may", "might", "would", "if", "unless"];
/// What follows these is about another thing.
const CONTRASTING: [&str; 4] = ["but", "although", "though", "whereas"];
/// A sentence that begins with these, or has one of those in it, supposes or lists; it does not say what was wrong.
const SUPPOSING: [&str; 5] = ["if", "when", "unless", "did", "are"];
const LISTING: [&str; 7] = ["otherwise", "perhaps", "maybe", "possibly", "probably", "whether", "might"];
/// RFC 6749 §5.2 lists in one sentence all that `invalid_grant` may be, to the end of it.
const RFC_6749: [&str; 3] = ["issued", "to", "another"];
/// Words that mean something else right behind these others: first the words, then the others.
const OTHER_THINGS: [(&str, &str); 10] = [
    ("authentication|authorization|credentials", "proxy"),
    (
        "token",
        "csrf|xsrf|boundary|antiforgery|forgery|verification|page|next|continuation|pagination|sync|unexpected|unrecognized|device|reset|authenticity|captcha|method|continue|merge|upload|download|template|variable|string|syntax|json",
    ),
    ("tokens", "method|unexpected|prompt|input|output|completion|max|of"),
    ("header", "jwt|jws|jose|csv|column|table|file|chunk|token's|proxy|magic|row|page|section|component"),
    ("session", "conversation|chat|call|interaction|recording|hibernate|database"),
    ("credentials", "action|actions|database|smtp"),
    ("version", "tls|ssl|http|api|schema|file|protocol|browser|format|software"),
    (
        "code",
        "status|response|country|error|exit|reason|language|currency|postal|zip|area|region|wrapup|qr|promo|mfa|otp|sms|verification",
    ),
    ("rate", "sample|sampling|frame|playback|exchange|interest|tax|abandon|conversion|pay|bit"),
    (
        "id",
        "request|trace|correlation|ray|reference|incident|event|support|session|client|transaction|error|context|tracking|activity|key|message|operation|call|log|caller|user|employee|customer",
    ),
];

/// The same where the others stand anywhere in the sentence.
const BESIDE: [(&str, &str); 17] = [
    ("token", "near|position|column|expression|template|filter|syntax|expand|parser|lexer"),
    ("token|session", "variable|variables"),
    ("code", "method"),
    ("json|xml", "expression|component|components"),
    ("credentials", "integration|integrations"),
    ("locked", "account|accounts|organization|organisation|org|licence|license|password|phone"),
    ("published", "because|since|due"),
    ("version", "exported|imported|file"),
    ("limit|limits", "page|pages|items|size|bytes|characters|kb|mb"),
    (
        "rate|quota|quotas",
        "plan|licence|licences|license|licenses|storage|store|disk|space|scripts|records|users|seats",
    ),
    (
        "https|tls|ssl",
        "'url|urls|uri|uris|link|links|image|images|logo|icon|avatar|video|website|callback|webhook|field",
    ),
    // What is quoted is the name of a field.
    ("https|tls|ssl", "'*"),
    ("client", "ip|address|network|country|location"),
    ("expected|expecting", "column"),
    ("path", "parameter|parameters|variable"),
    ("validation", "script|scripts|flow|publish|published|publishing"),
    ("scope", "variable|variables|expression|out"),
];

/// Stands in a text for data that was taken out of it.
const TAKEN_OUT: char = '\u{FFFC}';
/// Data shorter than this could be any word.
const SHORTEST_DATA: usize = 4;
/// So far it is looked what a word is part of.
const LONGEST_RUN: usize = 200;
/// Headers whose names begin with a word that supposes.
const CONDITIONAL: [&str; 5] = ["If-None-Match", "If-Match", "If-Unmodified-Since", "If-Modified-Since", "If-Range"];
/// What the names of files end with.
const FILES: [&str; 16] = [
    "script", "json", "xml", "csv", "txt", "html", "js", "py", "java", "jsonl", "yaml", "yml", "zip", "pdf", "png",
    "log",
];
/// Of what may be quoted: what opens it, and what ends it.
const QUOTES: [(char, &[char]); 12] = [
    ('"', &['"']),
    ('\'', &['\'']),
    ('`', &['`', '\'']),
    ('[', &[']']),
    ('“', &['”', '“']),
    ('„', &['“', '”']),
    ('‘', &['’']),
    ('«', &['»']),
    ('»', &['«']),
    ('‹', &['›']),
    ('「', &['」']),
    ('『', &['』']),
];
/// In a text that is cut within a quotation what these begin goes to its end. The others may stand for something else.
const FIRM: [char; 5] = ['"', '“', '„', '「', '『'];
/// What may stand behind a name that is not quoted.
const VERBS: [&str; 23] = [
    "is", "isn't", "was", "wasn't", "are", "has", "hasn't", "had", "cannot", "can", "can't", "could", "couldn't",
    "does", "doesn't", "did", "must", "may", "already", "not", "contains", "exist", "exists",
];
/// What a script, a flow or a page has: no name begins with it alone.
const PARTS: [&str; 14] = [
    "Id",
    "ID",
    "Ids",
    "Name",
    "Version",
    "Definition",
    "Validation",
    "Size",
    "Number",
    "Type",
    "Data",
    "File",
    "Import",
    "Export",
];
/// What a sentence goes on with where the name is over.
const JOINING: [&str; 10] = ["because", "as", "since", "due", "while", "when", "after", "but", "and", "with"];

/// What any refusal says.
#[rustfmt::skip]
const GENERIC: &[&str] = &[
    END, "bad", "request", "requests", "invalid", "malformed", "syntax", "error", "errors", "http", "status", "code",
    "400", "the", "a", "an", "this", "that", "your", "our", "browser", "client", "server", "service", "sent", "send",
    "could", "can", "be", "is", "was", "not", "understood", "understand", "by", "to", "due", "of", "and", "or", "it",
    "has", "failed", "failure", "process", "processed", "occurred", "wrong", "something", "went", "unknown", "in",
    "with", "handle", "message", "response", "reason", "description",
];

/// What some texts say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words(Vec<String>);

impl Words {
    pub(crate) fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut words = Self::default();
        for text in texts {
            if supposes(text) || words.0.len() > MOST_WORDS {
                break;
            }
            let mut sentence = Vec::new();
            // As if it were to be shown on a page.
            for piece in pieces(&unescaped(text)) {
                match piece {
                    Piece::Word(word) => push(&mut sentence, word),
                    Piece::Data => sentence.push(DATA.to_owned()),
                    Piece::End => words.end(&mut sentence),
                    Piece::Question => sentence.clear(),
                    // "Bad request: …" says nothing of what follows.
                    Piece::Colon if sentence.iter().all(|word: &String| GENERIC.contains(&word.as_str())) => {
                        words.end(&mut sentence);
                    }
                    Piece::Colon => {}
                }
            }
            words.end(&mut sentence);
        }
        words
    }

    fn end(&mut self, sentence: &mut Vec<String>) {
        let first = sentence.first().map(String::as_str).unwrap_or_default();
        let supposes = SUPPOSING.contains(&first)
            || sentence.iter().any(|word| LISTING.contains(&word.as_str()))
            || sentence.windows(3).any(|words| words == RFC_6749);
        if !supposes {
            tell_apart(sentence);
            self.0.append(sentence);
            self.0.push(END.to_owned());
        }
        sentence.clear();
    }

    /// Whether that is said. A pattern is words in their order: `a|b` is either of them, `..` some words of the same
    /// sentence or none, `'a` the word as it is or quoted, `'*` any word that is quoted, `…` data, `.` where the
    /// sentence begins or ends.
    pub(crate) fn say(&self, pattern: &str) -> bool {
        let begins = pattern.strip_prefix(". ");
        let pattern: Vec<&str> = begins.unwrap_or(pattern).split(' ').collect();
        let mut before = END;
        self.0.iter().enumerate().any(|(at, word)| {
            let turned = TURNING.contains(&before) || (begins.is_some() && before != END);
            before = word;
            !turned && follows(END, self.0.get(at..).unwrap_or_default(), &pattern)
        })
    }

    /// Whether any of these is said.
    pub(crate) fn say_any(&self, patterns: &[&str]) -> bool {
        patterns.iter().any(|pattern| self.say(pattern))
    }

    /// Whether nothing is said but what any refusal says.
    pub(crate) fn are_generic(&self) -> bool {
        self.0.iter().all(|word| GENERIC.contains(&word.as_str()))
    }
}

fn follows(before: &str, words: &[String], pattern: &[&str]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return true };
    if *first == ".." {
        let ends = |word: &str| {
            let ends_all = word == END || TURNING.contains(&word) || CONTRASTING.contains(&word);
            ends_all || (before == "no" && !is_one_of(word, OF_NO))
        };
        let gap = words.iter().take(GAP).take_while(|word| !ends(word)).count();
        return (0..=gap).any(|skipped| follows(END, words.get(skipped..).unwrap_or_default(), rest));
    }
    match words.split_first() {
        Some((word, after)) => is_one_of(word, first) && follows(word, after, rest),
        None => false,
    }
}

fn is_one_of(word: &str, of: &str) -> bool {
    let is_quoted = word.starts_with('\'');
    let (word, of) = match of.strip_prefix('\'') {
        Some(of) => (word.strip_prefix('\'').unwrap_or(word), of),
        None => (word, of),
    };
    of.split('|').any(|of| if of == "*" { is_quoted } else { of == word })
}

/// Whether what follows is a list of all that may be wrong.
fn supposes(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let of = ["problem", "cause", "reason", "solution"];
    of.iter().any(|of| text.contains(&format!("possible {of}")))
}

/// The text without such data, in whatever case, which may say anything. Of one that is nothing else, it is what is said.
pub(crate) fn without(text: &str, data: &[&str]) -> String {
    let mut left = text.to_owned();
    let is_part = |data: &&str| data.len() >= SHORTEST_DATA && !data.eq_ignore_ascii_case(text.trim());
    for data in data.iter().map(|data| data.trim()).filter(is_part) {
        let within = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let (mut kept, mut from) = (String::new(), 0);
        for (at, _) in left.to_ascii_lowercase().match_indices(&data.to_ascii_lowercase()) {
            let behind = at + data.len();
            kept.push_str(left.get(from..at).unwrap_or_default());
            match within(kept.chars().next_back()) || within(left.get(behind..).unwrap_or_default().chars().next()) {
                true => kept.push_str(left.get(at..behind).unwrap_or_default()),
                false => kept.push(TAKEN_OUT),
            }
            from = behind;
        }
        kept.push_str(left.get(from..).unwrap_or_default());
        left = kept;
    }
    left
}

/// One more word of a sentence, in its one spelling.
fn push(sentence: &mut Vec<String>, word: String) {
    // It does not matter whether it is said in one word or two.
    let (word, not) = match word.as_str() {
        "cannot" => ("can".to_owned(), true),
        word => match word.strip_suffix("n't").or_else(|| word.strip_suffix("n’t")) {
            Some(word) => (word.to_owned(), true),
            None => (word.to_owned(), false),
        },
    };
    let before = sentence.last().map(|before| before.trim_start_matches('\'')).unwrap_or_default();
    let is_other = OTHER_THINGS.iter().any(|(things, after)| is_one_of(&word, things) && is_one_of(before, after));
    sentence.push(if is_other { format!("other-{word}") } else { word });
    if not {
        sentence.push("not".to_owned());
    }
}

/// Gives words of a sentence another name where what stands beside them says that they are other things.
fn tell_apart(sentence: &mut [String]) {
    // A parser quotes the token it means; of a credential nothing is shown.
    for at in 1..sentence.len() {
        let is_shown =
            sentence.get(at).is_some_and(|next| *next == DATA || (next.starts_with('\'') && next != "'redacted"));
        if let Some(token) = sentence.get_mut(at - 1).filter(|word| is_shown && *word == "token") {
            token.insert_str(0, "other-");
        }
    }
    for (things, beside) in BESIDE {
        if sentence.iter().any(|word| is_one_of(word, beside)) {
            let others = sentence.iter_mut().filter(|word| is_one_of(word, things));
            others.for_each(|word| word.insert_str(0, "other-"));
        }
    }
}

enum Piece {
    Word(String),
    Data,
    End,
    Colon,
    Question,
}

/// The words of a text, and where its sentences end. What is in round brackets as an example is left out.
fn pieces(text: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut before = ' ';
    let mut last = "";
    // What nothing ends from here on is looked for once.
    let mut unended = Vec::new();
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        if let Some(closing) = opens(c, before).filter(|_| !unended.contains(&c)) {
            if let Some((quoted, behind)) = quote(closing, after) {
                let whole = quoted.len() + 6 >= text.len();
                let is_name = quoted.contains(char::is_alphanumeric) && !quoted.contains(char::is_whitespace);
                let is_data = !is_name || quoted.len() > 40 || placeholder(quoted).is_some();
                match (whole, is_data) {
                    (true, _) => found.extend(pieces(quoted)),
                    (false, true) => found.push(Piece::Data),
                    (false, false) => found.extend(names(quoted)),
                }
                (rest, before) = (behind, ' ');
                continue;
            }
            unended.push(c);
            let is_behind_word = before == ' ' && matches!(found.last(), Some(Piece::Word(_)));
            let is_cut = FIRM.contains(&c) && !after.contains(". ");
            if is_cut && is_behind_word && after.starts_with(char::is_alphanumeric) {
                found.push(Piece::Data);
                break;
            }
        }
        if let Some(behind) = example(rest) {
            rest = behind;
            continue;
        }
        if let Some((what, behind)) = token(rest, before, text) {
            found.extend(what);
            (rest, before, last) = (behind, 'a', "");
            continue;
        }
        if let Some(length) = title(last, rest).filter(|_| before == ' ') {
            found.push(Piece::Data);
            (rest, before, last) = (rest.get(length..).unwrap_or_default(), 'a', "");
            continue;
        }
        if c.is_alphanumeric() {
            let is_part = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’');
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            found.extend(split(word).map(Piece::Word));
            (rest, before, last) = (behind, 'a', word);
            continue;
        }
        let ends = after.chars().next().is_none_or(char::is_whitespace);
        found.extend(mark(c, before, ends));
        if !c.is_whitespace() {
            last = "";
        }
        (rest, before) = (after, c);
    }
    found
}

/// What a mark between words tells.
fn mark(c: char, before: char, ends: bool) -> Option<Piece> {
    match c {
        TAKEN_OUT => Some(Piece::Data),
        '?' if ends => Some(Piece::Question),
        '.' | '!' if ends => Some(Piece::End),
        ':' if ends => Some(Piece::Colon),
        ';' | '\n' | '|' | '·' | '–' | '—' => Some(Piece::End),
        '-' if before == ' ' && ends => Some(Piece::End),
        _ => None,
    }
}

/// The length of a name that stands unquoted after a word that announces one: it is in brackets, all of it is in capitals, or
/// it begins with one and goes to the verb, or to the end of the sentence.
fn title(announced_by: &str, rest: &str) -> Option<usize> {
    let is_within = announced_by.starts_with(char::is_lowercase);
    let least = match announced_by.to_ascii_lowercase().as_str() {
        "named" | "called" | "titled" => 1,
        "script" | "flow" | "queue" | "division" => 2,
        "page" | "variable" | "component" | "action" if is_within => 2,
        _ => return None,
    };
    let in_brackets = rest.strip_prefix('(').and_then(|rest| head(rest, LONGEST_RUN).0.split_once(')'));
    if let Some((name, behind)) = in_brackets {
        // At the end of a sentence it may be why.
        let is_name = behind.split_whitespace().next().is_some_and(|next| VERBS.contains(&next));
        return is_name.then_some(name.len() + 2);
    }
    let is_capital = |word: &&&str| {
        let mut chars = word.chars();
        chars.next().is_some_and(char::is_uppercase) && chars.all(|c| c.is_lowercase() || c == '\'')
    };
    let (words, next) = unquoted(rest);
    let capitals = words.iter().take_while(is_capital).count();
    // Two words at the end may be what is said.
    let is_part = words.first().is_some_and(|first| PARTS.contains(first));
    let is_whole = match next {
        _ if is_part => false,
        "" => words.len() > 2 && least == 2 && is_within,
        next => words.len() > 1 && VERBS.contains(&next),
    };
    // In a sentence that is all in capitals it is none.
    let is_among_small =
        least == 1 || is_within || words.get(capitals).unwrap_or(&next).starts_with(char::is_lowercase);
    let count = match (is_whole && capitals > 0, capitals >= least && is_among_small) {
        (true, _) => words.len(),
        (_, true) => capitals,
        _ => return None,
    };
    Some(words.iter().take(count).map(|word| word.len() + 1).sum::<usize>().saturating_sub(1))
}

/// The words that may be a name, and the one behind them that is none of it, if the sentence goes on.
fn unquoted(rest: &str) -> (Vec<&str>, &str) {
    let mut words = Vec::new();
    for word in head(rest, LONGEST_RUN).0.split(' ') {
        if VERBS.contains(&word) || JOINING.contains(&word) {
            return (words, word);
        }
        let bare = word.trim_end_matches(|c: char| !c.is_alphanumeric());
        words.push(bare);
        if bare.len() < word.len() {
            break;
        }
    }
    (words, "")
}

/// The words of a name, as quoted ones.
fn names(name: &str) -> impl Iterator<Item = Piece> {
    split(name).map(|word| Piece::Word(format!("'{word}")))
}

/// What ends the quotation that begins here. Within a word an apostrophe, or what may be one, opens nothing.
fn opens(c: char, before: char) -> Option<&'static [char]> {
    let (_, closing) = QUOTES.iter().find(|(opening, _)| *opening == c)?;
    (!matches!(c, '"' | '\'' | '`' | '‘') || !before.is_alphanumeric()).then_some(*closing)
}

/// What is quoted up to there, and what comes behind it.
fn quote<'a>(closing: &[char], after: &'a str) -> Option<(&'a str, &'a str)> {
    let (at, c) = after.char_indices().find(|(at, c)| {
        let next = after.get(at + c.len_utf8()..).unwrap_or_default().chars().next();
        closing.contains(c) && !(matches!(c, '\'' | '’') && next.is_some_and(char::is_alphanumeric))
    })?;
    Some((after.get(..at)?, after.get(at + c.len_utf8()..)?))
}

/// What begins here and is no sentence's words, and what comes behind it.
fn token<'a>(rest: &'a str, before: char, text: &str) -> Option<(Vec<Piece>, &'a str)> {
    let behind = |length: usize| rest.get(length..).unwrap_or_default();
    if let Some(length) = placeholder(rest) {
        return Some((vec![Piece::Data], behind(length)));
    }
    if before.is_alphanumeric() {
        return None;
    }
    let is_in = |c: char| c.is_alphanumeric() || c == '-';
    let begins = |name: &&&str| rest.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name));
    if let Some(name) = CONDITIONAL.iter().find(begins).filter(|name| !behind(name.len()).starts_with(is_in)) {
        return Some((names(name).collect(), behind(name.len())));
    }
    if is_class(rest) {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '$' | '_' | '/' | '-' | '+');
        let length = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
        return Some((vec![Piece::Data], behind(length)));
    }
    if !before.is_whitespace() && !matches!(before, '(' | '<' | '=' | ',') {
        return None;
    }
    let run = head(rest, LONGEST_RUN).0.split(char::is_whitespace).next()?;
    let run = run.trim_end_matches(|c: char| !c.is_alphanumeric() && c != '/');
    // A single part of a path may be the name of a field.
    if let Some(name) = run.strip_prefix('/').filter(|name| !name.is_empty() && name.chars().all(char::is_alphanumeric))
    {
        return Some((names(name).collect(), behind(run.len())));
    }
    let is_all = run.len() == text.trim().len();
    (is_address(run) || (!is_all && is_dotted(run))).then(|| (vec![Piece::Data], behind(run.len())))
}

/// The length of what stands for a value that was to be put there.
fn placeholder(rest: &str) -> Option<usize> {
    let marks = [("${", "}"), ("#{", "}"), ("%{", "}"), ("{{", "}}"), ("{", "}")];
    let (opening, closing) = marks.iter().find(|(opening, _)| rest.starts_with(opening))?;
    let (value, _) = head(rest.get(opening.len()..)?, LONGEST_RUN).0.split_once(closing)?;
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
    let is_value = *opening != "{" || (!value.is_empty() && value.chars().all(is_name));
    is_value.then(|| opening.len() + value.len() + closing.len())
}

/// A path or an address.
fn is_address(run: &str) -> bool {
    let is_path = run.starts_with('/') && run.contains(char::is_alphanumeric);
    let has_query = run.split_once('?').is_some_and(|(_, query)| query.contains('='));
    let (within, last) = run.rsplit_once('/').unwrap_or_default();
    let is_media_type = ["application", "multipart", "text", "image"].contains(&within);
    let is_part =
        within.contains('/') && within.matches('/').count() > 1 || last.contains(['-', '_']) && !is_media_type;
    is_path || has_query || is_part || run.contains("://") || run.contains(":\\")
}

/// A file, or parts with colons between them, as permissions are named.
fn is_dotted(run: &str) -> bool {
    let is_file = run.rsplit_once('.').is_some_and(|(stem, end)| !stem.is_empty() && FILES.contains(&end));
    is_file || (run.split(':').count() > 2 && run.split(':').all(|part| !part.is_empty()))
}

/// A class of a program, as in a stack trace, or a media type: its name says nothing of the request.
fn is_class(name: &str) -> bool {
    ["application/", "text/", "java.", "javax.", "jakarta.", "org.", "com.", "net.", "io.", "sun.", "kotlin.", "scala."]
        .iter()
        .any(|of| name.starts_with(of))
}

/// What comes behind the example in brackets that begins here.
fn example(rest: &str) -> Option<&str> {
    let is_example = ["(e.g.", "(for example", "(such as", "(like "].iter().any(|begin| rest.starts_with(begin));
    is_example.then(|| rest.split_once(')').map_or("", |(_, behind)| behind))
}

/// `pageSize`, `HTTPHeader` and `page_size` are two words each. Lower case.
fn split(word: &str) -> impl Iterator<Item = String> {
    let chars: Vec<char> = word.chars().collect();
    let mut words = vec![String::new()];
    for (at, c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| chars.get(before));
        let small = |at: usize| chars.get(at).is_some_and(|c| c.is_lowercase());
        let begins = c.is_uppercase()
            && before.is_some_and(|before| {
                // An `ETag` is one word.
                before.is_lowercase() || (at > 1 && before.is_uppercase() && small(at + 1) && small(at + 2))
            });
        if begins || !(c.is_alphanumeric() || matches!(c, '\'' | '’')) {
            words.push(String::new());
        }
        if let (true, Some(last)) = (c.is_alphanumeric() || matches!(c, '\'' | '’'), words.last_mut()) {
            last.extend(c.to_lowercase());
        }
    }
    words.into_iter().filter(|word| !word.is_empty())
}

/// What a text quotes first.
pub(crate) fn quoted_data(text: &str) -> Option<&str> {
    text.char_indices().find_map(|(at, c)| {
        let before = text.get(..at)?.chars().next_back().unwrap_or(' ');
        let (quoted, _) = quote(opens(c, before)?, text.get(at + c.len_utf8()..)?)?;
        // What is quoted may itself be a sentence that quotes.
        quoted.rsplit(['\'', '"', '`']).next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &str, pattern: &str) -> bool {
        Words::of([text]).say(pattern)
    }

    #[test]
    fn words_are_whole_in_any_spelling_of_a_code() {
        for text in ["too.many.requests", "TOO_MANY_REQUESTS", "TooManyRequestsException", "Too many requests!"] {
            assert!(says(text, "too many requests"), "{text}");
        }
        assert!(!says("tokenization expired", "token .. expired"));
        assert!(says("HTTPHeader pageSize UUIDs IDs", "http header page size uuids ids"));
    }

    #[test]
    fn a_sentence_ends_and_a_negation_turns_it() {
        assert!(says("The session of agent 7 has expired.", "session .. expired"));
        for text in [
            "The session is fine. The card expired.",
            "The session has not expired",
            "The session hasn't expired",
            "The session may have expired",
            "If the session has expired, log in",
            "Has the session expired?",
            "no session expired",
            "The session is valid but the card has expired",
            "a session of one or two or three or four agents has expired",
        ] {
            assert!(!says(text, "session .. expired"), "{text}");
        }
        assert!(says("It isn't valid", "not valid") && says("it cannot be read", "can not be read"));
        // What only looks like the end of a sentence.
        for text in ["The session has expired (GET /a?id=1)", "The session-1 has expired", "Session 1.2 expired"] {
            assert!(says(text, "session .. expired"), "{text}");
        }
        assert!(!says("See the session - expired cards are refused", "session .. expired"));
    }

    #[test]
    fn what_is_quoted_is_data() {
        assert!(!says("Value [too many requests] is wrong", "too many requests"));
        assert!(
            !says("Parameter 'token' expired", "token expired") && says("Parameter 'token' expired", "'token expired")
        );
        assert!(says("\"Too many requests\"", "too many requests"), "all of it is quoted");
        assert!(says("the client's header is missing", "header .. missing"));
        assert!(says("bad URI `/eu west/'.", "bad uri"));
        assert!(!says("at com.example.TooManyRequestsFilter.run", "too many requests"), "a class of a program");
        assert!(!says("Invalid application/json payload", "invalid application"), "a media type");
        assert!(!says("refused (e.g., a missing header, a bad line)", "missing header"));
    }

    #[test]
    fn what_stands_for_a_value_or_leads_somewhere_is_data() {
        for (text, words) in [
            ("Cannot GET /api/v2/scripts/session-expired.", "can not get … . ."),
            ("No route for scripts?name=too+many (GET /a?b=1)", "no route for … get … ."),
            ("at https://example.com/token-expired, twice", "at … twice ."),
            ("in C:\\session\\expired", "in … ."),
            ("/scriptId is odd, /a-b too", "'script 'id is odd … too ."),
            ("scripts/token-expired is odd, a/b/c/d too", "… is odd … too ."),
            ("token/session/header is application/x-a", "token session header is … ."),
            ("read/write and/or a / b", "read write and or a b ."),
            ("File rate-limit-exceeded.script is odd", "file … is odd ."),
            // A code may look like a file.
            ("invalid.json", "invalid json ."),
            ("You need oauth:token:add here", "you need … here ."),
            ("at 10:30 http:8080 ::1", "at 10 30 http 8080 1 ."),
            ("${a token} #{b.c} %{d} {{e f}} {g} are", "… … … … … are ."),
            ("${a token and ${b} is", "… is ."),
            ("at '${token}' and '{a}b'", "at … and … ."),
            ("{ token expired } {a b} %{c", "token expired a b c ."),
        ] {
            assert_eq!(heard(text), words, "{text}");
        }
        let long = format!("${{{}}} token", "x".repeat(LONGEST_RUN));
        assert!(heard(&long).ends_with("x token ."), "no value is that long");
    }

    #[test]
    fn a_header_that_begins_with_a_word_of_doubt_is_a_header() {
        for (text, words) in [
            ("If-Match failed", "'if 'match failed ."),
            ("no if-none-match here", "no 'if 'none 'match here ."),
            ("If-Modified-Since is odd", "'if 'modified 'since is odd ."),
            ("If-Matching headers are sent, odd", ""),
            ("if match is odd", ""),
        ] {
            assert_eq!(heard(text), words, "{text}");
        }
    }

    #[test]
    fn a_name_in_capitals_after_what_announces_one_is_data() {
        for (text, words) in [
            ("A script named Rate Limit Exceeded exists", "a script named … exists ."),
            ("Script Token Expired cannot be read", "script … can not be read ."),
            ("in the script Token Expired", "in the script … ."),
            ("called Main, once", "called … once ."),
            // One that only begins with one goes to the verb.
            ("Script Rate limit exceeded is not valid", "script … is not valid ."),
            (
                "A script named Session expired, or not already exists",
                "a script named … expired or not already exists .",
            ),
            ("a flow called Access token expired already exists", "a flow called … already exists ."),
            ("cannot delete script Rate limit exceeded", "can not delete script … ."),
            ("no flow Rate limit exceeded. Rate limit exceeded", "no flow … . rate limit exceeded ."),
            ("the page Rate Limit Exceeded has no root", "the page … has no root ."),
            ("Page Size Limit exceeded", "page size other-limit exceeded ."),
            ("the script Main is odd as its version is", "the script main is odd as its version is ."),
            ("the script Main menu as its version is odd", "the script main menu as its version is odd ."),
            ("Script (a b) is odd (c d)", "script … is odd c d ."),
            ("Script Definition is odd", "script definition is odd ."),
            ("Script Id provided is odd", "script id provided is odd ."),
            ("invalid script Id in request path", "invalid script id in request path ."),
            ("The script Definition provided is odd", "the script definition provided is odd ."),
            ("The page Size parameter is odd", "the page size parameter is odd ."),
            ("Script Version mismatch has been seen", "script version mismatch has been seen ."),
            ("cannot publish script (it is locked)", "can not publish script it is locked ."),
            ("Script Too many requests: it is odd", "script too many requests it is odd ."),
            // Not in a sentence that is all in capitals, nor one word that may be its first, nor what is spelt so.
            ("Script Token Expired", "script token expired ."),
            ("the script Token expired", "the script token expired ."),
            ("the script API ID is odd", "the script api id is odd ."),
            ("named as such", "named as such ."),
        ] {
            assert_eq!(heard(text), words, "{text}");
        }
    }

    #[test]
    fn data_is_taken_out_of_a_text_where_it_is_a_part_of_it() {
        for (text, data, left) in [
            ("the main script of main", &["main"][..], "the \u{FFFC} script of \u{FFFC}"),
            ("remain in the mainland", &["main"], "remain in the mainland"),
            ("the old main script", &["main", "old"], "the old \u{FFFC} script"),
            ("main", &["main"], "main"),
            ("Straße main", &["main"], "Straße \u{FFFC}"),
            ("mainmain main", &["main"], "mainmain \u{FFFC}"),
            ("a", &["", " ", "main"], "a"),
            ("Script MAIN MENU of Ürün main menu", &["Main menu"], "Script \u{FFFC} of Ürün \u{FFFC}"),
            ("Main Menu", &["main menu"], "Main Menu"),
        ] {
            assert_eq!(without(text, data), left, "{text}");
        }
        assert_eq!(heard("the \u{FFFC} is odd"), "the … is odd .");
    }

    #[test]
    fn a_no_is_one_only_before_what_it_may_deny() {
        assert!(says("No token", "no .. token") && says("no valid access token", "no .. token"));
        for text in ["Valor inválido no campo token", "no tiene token", "no script of that token"] {
            assert!(!says(text, "no .. token"), "{text}");
        }
    }

    #[test]
    fn marks_that_nothing_ends_are_looked_for_once() {
        // Looked for to the end of the text for each, their ends would take minutes.
        for mark in ["[", "“", "«", " \"'`", " '", "{{", "${", " /", "=a"] {
            let text = mark.repeat((1 << 17) / mark.len());
            assert!(pieces(&text).len() <= text.len(), "{mark}");
        }
    }

    #[test]
    fn what_is_quoted_first_is_found() {
        for (text, quoted) in [
            ("Value [a b] of 'c' is wrong", Some("a b")),
            ("Parameter 'pageSize' is wrong", Some("pageSize")),
            ("bad URI `/eu west/'.", Some("/eu west/")),
            ("the client's header is missing", None),
            ("nothing", None),
        ] {
            assert_eq!(quoted_data(text), quoted, "{text}");
        }
    }

    #[test]
    fn another_thing_of_the_same_name_is_another_thing() {
        assert!(!says("CSRF token invalid", "token invalid") && says("Token invalid", "token invalid"));
        assert!(!says("Missing boundary token", "missing .. token"));
        assert!(!says("Request ID: invalid", "id invalid") && says("script id invalid", "id invalid"));
    }

    #[test]
    fn what_stands_beside_a_word_tells_which_thing_it_is() {
        for (text, pattern) in [
            ("Token expired at position 7", "token expired"),
            ("Your account was locked", "was locked"),
            ("The link must use https", "use https"),
            ("'callback' must use https", "use https"),
            ("The client with this address is unknown", "client .. unknown"),
            ("Invalid token '}'", "invalid token"),
            ("Invalid JSONPath expression $.a", "invalid json"),
            ("Invalid JSON in a property of component Header", "invalid json"),
            ("Invalid token \"a b\"", "invalid token"),
        ] {
            assert!(!says(text, pattern), "{text}");
        }
        assert!(says("Token expired. Position 7", "token expired"), "of its own sentence only");
        assert!(says("Invalid token [REDACTED]", "invalid token"), "what was ours is shown like this");
    }

    #[test]
    fn a_pattern_may_stand_for_a_whole_sentence_or_for_an_end_of_one() {
        for text in ["Not acceptable", "Bad request: not acceptable", "No. Not acceptable!"] {
            assert!(says(text, ". not acceptable ."), "{text}");
        }
        assert!(!says("The name is not acceptable", ". not acceptable") && says("It is full", "full ."));
        assert!(!says("Not acceptable to us", ". not acceptable .") && !says("full of it", "full ."));
    }

    #[test]
    fn generic_is_what_any_refusal_says() {
        for text in ["Bad Request", "The request could not be understood by the server due to malformed syntax."] {
            assert!(Words::of([text]).are_generic(), "{text}");
        }
        assert!(!Words::of(["Bad template"]).are_generic());
    }

    /// The words, with `.` where a sentence ends and `…` for data.
    fn heard(text: &str) -> String {
        Words::of([text]).0.join(" ")
    }

    #[test]
    fn a_text_is_taken_apart_where_its_sentences_end() {
        for (text, words) in [
            ("one; two | three · four – five — six\nseven", "one . two . three . four . five . six . seven ."),
            ("one - two! three", "one . two . three ."),
            ("one -b two-c", "one b two c ."),
            ("at 10:30 http:8080", "at 10 30 http 8080 ."),
            // Of what any refusal says nothing is said of what follows.
            ("bad request: page size", "bad request . page size ."),
            ("bad:request line", "bad request line ."),
            ("page size: is odd", "page size is odd ."),
        ] {
            assert_eq!(heard(text), words, "{text}");
        }
    }

    #[test]
    fn a_quotation_goes_from_its_mark_to_the_same() {
        let long = "x".repeat(41);
        for (text, words) in [
            ("he says 'a b' here", "he says … here ."),
            ("he says 'a b' here 'c' too", "he says … here 'c too ."),
            ("he says 'that isn't so' here", "he says … here ."),
            ("he says \"a b\"c", "he says … c ."),
            ("he says “a b“ and „a b“, „a b” and ‘a’s b’ here", "he says … and … … and … here ."),
            ("he says »a b« and ‹a b› and « a b » here", "he says … and … and … here ."),
            ("これは「a b」と『a b』", "これは … と … ."),
            ("脚本“a b”不存在", "脚本 … 不存在 ."),
            ("he says &quot;a b&quot; and &#39;a b&#39; here", "he says … and … here ."),
            // What is cut within it is no less quoted, and what begins with a mark is all that is said.
            ("he says \"a b and", "he says … ."),
            ("he says \"a b and. It is so", "he says a b and . it is so ."),
            ("\"a b and", "a b and ."),
            ("{\"message\": \"a b and", "'message a b and ."),
            ("5\" of a b", "5 of a b ."),
            ("rock'n'roll is field[a b] is", "rock'n'roll is field … is ."),
            (&format!("it is '{long}' now"), "it is … now ."),
            (&format!("it is '{}' now", &long[1..]), &format!("it is '{} now .", &long[1..])),
        ] {
            assert_eq!(heard(text), words, "{text}");
        }
    }

    #[test]
    fn a_name_is_the_words_it_is_made_of() {
        for (name, words) in [
            ("pageSize", "page size"),
            ("page_size", "page size"),
            ("HTTPHeader", "http header"),
            ("HTTPNow", "http now"),
            ("ETag", "etag"),
            ("PageIDs", "page ids"),
            ("Ünïcode", "ünïcode"),
        ] {
            assert_eq!(split(name).collect::<Vec<_>>().join(" "), words, "{name}");
        }
    }

    #[test]
    fn what_lists_possible_reasons_gives_none_and_nobody_is_listened_to_for_ever() {
        for text in
            ["Possible causes: the quota is spent", "POSSIBLE REASONS are a spent quota", "possible solutions: x"]
        {
            let words = Words::of(["refused", text, "the quota is spent"]);
            assert_eq!(words, Words::of(["refused"]), "{text}");
        }
        let text = "word ".repeat(50);
        let words = Words::of(std::iter::repeat_n(text.as_str(), 1_000));
        assert!((MOST_WORDS..MOST_WORDS + 60).contains(&words.0.len()), "{}", words.0.len());
    }
}
