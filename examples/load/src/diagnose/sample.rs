//! What the experiment takes down: each request as it was sent, and how it ended.

use crate::numbers;

/// Which of the experiment's arms a request belongs to. Arms differ in one thing from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Arm {
    /// Logins one after the other, with tokens used between them.
    Session,
    /// The first requests, one at a time.
    Probe,
    /// One at a time, on kept connections.
    Alone,
    /// One at a time, each on a connection of its own.
    NewConnection,
    /// A few at once, all with one token.
    SharedToken,
    /// The same, each with a token of its own.
    OwnTokens,
    /// One at a time, from another address of this machine.
    OtherAddress,
    /// A few at once, for the same script.
    OneId,
    /// The same, for a script each.
    EachId,
    /// A few at once, again and again without a pause.
    Fast,
    /// As few at once, at a low rate.
    Slow,
    /// Many at once: a part of the agents, or all.
    Wave,
    /// As many, their starts spread over the time an answer takes.
    Poured,
    /// Some at once, each on a connection of its own.
    NewWave,
}

/// One request that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) arm: Arm,
    /// When it was sent, and how long it took, in seconds of the experiment.
    pub(crate) at: f64,
    pub(crate) took: f64,
    /// How many others were under way when it was sent.
    pub(crate) in_flight: u32,
    pub(crate) token: u32,
    pub(crate) id: u32,
    /// Of this machine: 0 is the one that is used without a choice.
    pub(crate) address: u32,
    /// Whether its connection was new; and whether that is known and not guessed, as without an answer.
    pub(crate) fresh: bool,
    pub(crate) fresh_known: bool,
    /// The connection, where it is known.
    pub(crate) connection: Option<u32>,
    /// What the answer tells of who gave it.
    pub(crate) node: Option<String>,
    /// How old its token was, in seconds.
    pub(crate) age: f64,
    /// Whether another login of the same client came after that of its token.
    pub(crate) stale: bool,
    /// How it ended.
    pub(crate) end: u32,
}

/// A login that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// Whether it was one of many at once.
    pub(crate) at_once: bool,
    pub(crate) end: u32,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Well,
    /// A status, and what the body calls it.
    Refused(u16, String),
    /// No answer in time.
    Timeout,
    /// The connection was reset or closed without an answer.
    Broken(String),
    /// No connection could be made.
    Unreachable(String),
    /// This machine was at its end: of what.
    Machine(&'static str),
    /// A good status, and no script.
    NoScript,
}

impl End {
    /// As the report counts it.
    pub(crate) fn code(&self) -> String {
        match self {
            Self::Well => "200".to_owned(),
            Self::Refused(status, _) => status.to_string(),
            Self::Timeout => "timeout".to_owned(),
            Self::Broken(_) => "no answer".to_owned(),
            Self::Unreachable(_) => "no connection".to_owned(),
            Self::Machine(what) => format!("out of {what}"),
            Self::NoScript => "200 without a script".to_owned(),
        }
    }

    /// In words, for evidence.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Refused(status, text) if text.is_empty() => status.to_string(),
            Self::Refused(status, text) => format!("{status} {text}"),
            Self::Broken(why) | Self::Unreachable(why) => format!("{} ({why})", self.code()),
            _ => self.code(),
        }
    }

    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(status, _) => Some(*status),
            _ => None,
        }
    }
}

/// The most ways to end that are told apart: what the wire says has no bound.
const ENDS: usize = 64;

/// All that was taken down.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) samples: Vec<Sample>,
    pub(crate) logins: Vec<Login>,
    ends: Vec<End>,
}

impl Taken {
    /// Number 0 is to have ended well.
    pub(crate) const WELL: u32 = 0;

    pub(crate) fn new() -> Self {
        Self { samples: Vec::new(), logins: Vec::new(), ends: vec![End::Well] }
    }

    /// The number of a way to end. Of too many, one that ended alike.
    pub(crate) fn end(&mut self, end: End) -> u32 {
        let known = || self.ends.iter();
        let alike = |known: &End| self.ends.len() >= ENDS && known.code() == end.code();
        let number = known().position(|known| *known == end).or_else(|| known().position(alike));
        let number = number.unwrap_or(self.ends.len());
        if number == self.ends.len() {
            self.ends.push(end);
        }
        numbers::count(number)
    }

    pub(crate) fn of(&self, number: u32) -> &End {
        self.ends.get(number as usize).unwrap_or(&End::NoScript)
    }

    /// The ways to fail, each with its code.
    pub(crate) fn codes(&self) -> impl Iterator<Item = (u32, String)> {
        (0..).zip(self.ends.iter().map(End::code)).skip(1)
    }

    pub(crate) fn failures(&self) -> usize {
        self.samples.iter().filter(|sample| sample.end != Self::WELL).count()
    }
}
