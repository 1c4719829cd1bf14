//! Attempts that got no whole answer: what happened, and whether the request had left.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use reqwest_retry::{Retryable, default_on_request_failure};

use super::{Error, ErrorKind};
use crate::text::shown;

/// An attempt that got no whole answer.
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) what: String,
    /// The request never left this machine, so sending it again cannot act twice.
    pub(crate) never_sent: bool,
    /// Another attempt may fare better.
    pub(crate) transient: bool,
    /// The call's own deadline ended it: that says nothing of the host.
    pub(crate) cut_short: bool,
    pub(crate) source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    pub(crate) fn timed_out(host: &str, whole_call: bool, attempt: Duration) -> Self {
        let what = if whole_call {
            format!("the call's time ran out before {host} answered")
        } else {
            format!("{host} did not answer within {:.1} s", attempt.as_secs_f64())
        };
        Self { kind: ErrorKind::Timeout, what, never_sent: false, transient: true, cut_short: whole_call, source: None }
    }

    /// What reqwest or a middleware of the user's reports instead of a response.
    pub(crate) fn of_transport(error: reqwest_middleware::Error, host: &str) -> Self {
        let transient = matches!(default_on_request_failure(&error), Some(Retryable::Transient));
        match error {
            reqwest_middleware::Error::Reqwest(error) => {
                let error = error.without_url();
                let never_sent = error.is_connect() || error.is_builder();
                let timed_out = error.is_timeout();
                let io = io_error(&error).map(io::Error::kind);
                let cause = shown(&deepest(&error));
                let (unprocessed, going_away) = h2_says(&error);
                let never_sent = never_sent || unprocessed;
                let transient = transient || unprocessed || going_away || io.is_some_and(is_broken_connection);
                let (kind, what) = if error.is_builder() {
                    (ErrorKind::InvalidInput, format!("the request for {host} cannot be sent: {cause}"))
                } else if io == Some(io::ErrorKind::ConnectionRefused) {
                    (ErrorKind::Connection, format!("{host} refused the connection: nothing listens there"))
                } else if never_sent && timed_out {
                    (ErrorKind::Timeout, format!("no connection to {host} in time"))
                } else if never_sent {
                    (ErrorKind::Connection, format!("no connection to {host}: {cause}"))
                } else {
                    (ErrorKind::Connection, format!("the connection to {host} broke before it answered: {cause}"))
                };
                Self { kind, what, never_sent, transient, cut_short: false, source: Some(Box::new(error)) }
            }
            reqwest_middleware::Error::Middleware(error) => {
                // One that speaks of the connection is believed.
                let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
                let broken = io.is_some_and(is_broken_connection);
                let kind = if broken { ErrorKind::Connection } else { ErrorKind::Middleware };
                let what = if broken {
                    format!("the connection to {host} broke before it answered")
                } else {
                    "a middleware of yours failed".to_owned()
                };
                let never_sent = io == Some(io::ErrorKind::ConnectionRefused);
                Self { kind, what, never_sent, transient: broken, cut_short: false, source: Some(error.into()) }
            }
        }
    }

    /// The head of the answer came, but not all of its body.
    pub(crate) fn broken_off(error: reqwest::Error, host: &str, after: usize) -> Self {
        let what = format!("the answer of {host} broke off after {after} bytes of its body");
        let source = Some(Box::new(error.without_url()) as _);
        Self { kind: ErrorKind::Connection, what, never_sent: false, transient: true, cut_short: false, source }
    }

    pub(crate) fn too_large(host: &str, limit: usize) -> Self {
        let what = format!("the answer of {host} is larger than the {limit} bytes allowed");
        Self {
            kind: ErrorKind::UnexpectedAnswer,
            what,
            never_sent: false,
            transient: false,
            cut_short: false,
            source: None,
        }
    }

    /// Whether it speaks of a service that is overloaded or down: a timeout, or a refused connection.
    pub(crate) fn is_overload(&self) -> bool {
        (self.kind == ErrorKind::Timeout && !self.cut_short) || (self.never_sent && self.kind == ErrorKind::Connection)
    }
}

/// The failure as the user gets it.
pub(crate) fn error(failure: Failure) -> Error {
    let error = Error::new(failure.kind, failure.what);
    match failure.source {
        Some(source) => error.with_boxed_source(source),
        None => error,
    }
}

fn is_broken_connection(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::TimedOut
    )
}

fn io_error(error: &reqwest::Error) -> Option<&io::Error> {
    std::iter::successors(StdError::source(error), |cause: &&(dyn StdError + 'static)| (*cause).source())
        .find_map(|cause| cause.downcast_ref())
}

/// Whether HTTP/2 tells that the request was not processed, or that the peer is closing down in good order: then
/// another connection takes it. A load balancer that drains says one or the other of every stream.
fn h2_says(error: &reqwest::Error) -> (bool, bool) {
    let causes = std::iter::successors(StdError::source(error), |cause: &&(dyn StdError + 'static)| (*cause).source());
    let mut found = causes.filter_map(|cause| cause.downcast_ref::<h2::Error>()).filter(|error| error.is_remote());
    match found.next() {
        Some(error) => (
            error.reason() == Some(h2::Reason::REFUSED_STREAM),
            error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR),
        ),
        None => (false, false),
    }
}

/// The innermost cause, which names the fact; those around it say where it was met.
fn deepest(error: &reqwest::Error) -> String {
    std::iter::successors(StdError::source(error), |cause: &&(dyn StdError + 'static)| (*cause).source())
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string)
}
