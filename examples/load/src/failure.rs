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
    /// Of the answer, if there was one.
    pub(crate) status: Option<u16>,
    /// What of this machine was at its end, if that was it.
    pub(crate) machine: Option<&'static str>,
    /// Whether the time was over before there was an answer.
    pub(crate) timed_out: bool,
}

impl Failure {
    /// One that no answer told of.
    pub(crate) fn other(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind: text.clone(), text, bad_request: None, cause: None, status: None, machine: None, timed_out: false }
    }

    /// What of this machine an error says was at its end.
    pub(crate) fn of_machine(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
        let mut next = Some(error);
        while let Some(error) = next {
            match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
                // EMFILE and ENFILE, everywhere.
                Some(23 | 24) => return Some("open files"),
                // EADDRNOTAVAIL of Linux, macOS and Windows.
                Some(99 | 49 | 10_049) => return Some("ports"),
                _ => next = error.source(),
            }
        }
        None
    }

    /// In a few words, for a plot.
    pub(crate) fn label(&self) -> String {
        match (self.status, &self.bad_request) {
            (Some(status), Some(class)) => format!("{status} {class}"),
            (Some(status), None) => status.to_string(),
            (None, _) => self.machine.map_or("no answer".to_owned(), |machine| format!("out of {machine}")),
        }
    }
}

/// The failures of a run.
#[derive(Debug, Default)]
pub(crate) struct Failures(HashMap<String, (u64, String)>);

/// Kinds told apart; what the wire says has no bound.
pub(crate) const KINDS: usize = 200;

impl Failures {
    pub(crate) fn add(&mut self, failure: &Failure) {
        if let Some((count, _)) = self.0.get_mut(&failure.kind) {
            *count += 1;
        } else if self.0.len() < KINDS {
            self.0.insert(failure.kind.clone(), (1, failure.text.clone()));
        } else {
            self.0.entry(String::new()).or_insert((0, "failures of other kinds".to_owned())).0 += 1;
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.values().map(|(count, _)| count).sum()
    }

    /// The most frequent first, each with one of its texts.
    pub(crate) fn top(&self) -> impl Iterator<Item = (u64, &str)> {
        let mut all: Vec<_> = self.0.values().map(|(count, text)| (*count, text.as_str())).collect();
        all.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(other.1)));
        all.into_iter()
    }
}
