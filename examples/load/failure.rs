//! Why agents got no script, counted by what the failures have in common.

use std::collections::HashMap;

/// One agent's failure.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// What it has in common with others: not its ids and times.
    pub(crate) kind: String,
    /// All of it, on one line, fit for a terminal.
    pub(crate) text: String,
    /// The class of the 400 that it was, if it was one.
    pub(crate) bad_request: Option<String>,
}

impl Failure {
    /// One that no answer told of.
    pub(crate) fn other(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind: text.clone(), text, bad_request: None }
    }
}

/// The class of a 400, by what the service said.
///
/// The same words in both modes, so that they stand on one line of the summary. What the crate makes of a 400 on
/// further evidence stands in the text of its error.
pub(crate) fn class_of_400(code: Option<&str>, message: Option<&str>) -> String {
    let message = message.unwrap_or_default().to_ascii_lowercase();
    if message.contains("invalid script definition") {
        return "invalid_script_definition".to_owned();
    }
    if code == Some("invalid_request") && message.starts_with("rate limit exceeded") {
        return "login_throttled".to_owned();
    }
    // It came from the wire and goes to a terminal.
    let code: String = code.unwrap_or_default().chars().take(60).map(plain).collect();
    if code.is_empty() { "unknown".to_owned() } else { code }
}

fn plain(c: char) -> char {
    if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }
}

/// The failures of a run.
#[derive(Debug, Default)]
pub(crate) struct Failures(HashMap<String, (u32, String)>);

impl Failures {
    pub(crate) fn add(&mut self, failure: Failure) {
        self.0.entry(failure.kind).or_insert((0, failure.text)).0 += 1;
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.values().map(|(count, _)| count).sum()
    }

    /// The most frequent first, each with one of its texts.
    pub(crate) fn top(&self) -> impl Iterator<Item = (u32, &str)> {
        let mut all: Vec<_> = self.0.values().map(|(count, text)| (*count, text.as_str())).collect();
        all.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(other.1)));
        all.into_iter()
    }
}
