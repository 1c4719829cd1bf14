//! Why agents got no script, counted by what the failures have in common.

use std::collections::HashMap;

use genesys_scripts::BadRequest;

/// One agent's failure.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// What it has in common with others: not its ids and times.
    pub(crate) kind: String,
    /// All of it, on one line, fit for a terminal.
    pub(crate) text: String,
    /// The class of the 400 that it was, if it was one: in the naive mode what the service called it, in the
    /// resilient one the cause that the crate found.
    pub(crate) bad_request: Option<String>,
    /// What the crate found it to be.
    pub(crate) cause: Option<Box<BadRequest>>,
}

impl Failure {
    /// One that no answer told of.
    pub(crate) fn other(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind: text.clone(), text, bad_request: None, cause: None }
    }
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
