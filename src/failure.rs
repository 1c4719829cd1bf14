//! Attempts that got no whole answer: what happened, and whether the request had left.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use reqwest_retry::{Retryable, default_on_request_failure};

use crate::error::{Error, ErrorKind};
use crate::text;

/// An attempt that its own call cut short sooner than this says nothing of the service.
const UNANSWERED: Duration = Duration::from_secs(5);

/// An attempt that got no whole answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) what: String,
    /// The request never left this machine, so sending it again cannot act twice.
    pub(crate) never_sent: bool,
    /// Another attempt may fare better.
    pub(crate) transient: bool,
    /// It lasts until somebody mends it: a certificate, a proxy that refuses, a coding that is none.
    pub(crate) lasting: bool,
    /// It speaks of the service: many of these, and nothing else, are an outage.
    pub(crate) of_service: bool,
    /// Nothing came back on its connection in all of its time.
    pub(crate) silent: bool,
    pub(crate) source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            never_sent: false,
            transient: false,
            lasting: false,
            of_service: false,
            silent: false,
            source: None,
        }
    }

    /// No client could be made to send it with.
    pub(crate) fn not_built(error: Error) -> Self {
        Self { never_sent: true, ..Self::new(error.kind(), error.to_string()) }
    }

    /// Its time ran out: the attempt's, or, where that was shorter, what was left of the whole call's.
    pub(crate) fn timed_out(host: &str, whole_call: bool, waited: Duration) -> Self {
        let what = if whole_call {
            format!("the call's time ran out before {host} answered")
        } else {
            format!("{host} did not answer within {:.1} s", waited.as_secs_f64())
        };
        let silent = !whole_call || waited >= UNANSWERED;
        Self { transient: true, of_service: silent, silent, ..Self::new(ErrorKind::Timeout, what) }
    }

    /// What reqwest or a middleware of the user's reports instead of a response.
    pub(crate) fn of_transport(error: reqwest_middleware::Error, host: &str) -> Self {
        let transient = matches!(default_on_request_failure(&error), Some(Retryable::Transient));
        match error {
            reqwest_middleware::Error::Reqwest(error) => Self::of_reqwest(error.without_url(), transient, host),
            reqwest_middleware::Error::Middleware(error) => {
                // One that speaks of the connection is believed.
                let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
                let broken = io.is_some_and(is_broken_connection);
                let failure = match broken {
                    true => {
                        Self::new(ErrorKind::Connection, format!("the connection to {host} broke before it answered"))
                    }
                    false => Self::new(ErrorKind::Middleware, "a middleware of yours failed"),
                };
                let never_sent = io == Some(io::ErrorKind::ConnectionRefused);
                Self { never_sent, transient: broken, of_service: broken, source: Some(error.into()), ..failure }
            }
        }
    }

    fn of_reqwest(error: reqwest::Error, transient: bool, host: &str) -> Self {
        let io = io_error(&error).map(io::Error::kind);
        let cause = deepest(&error);
        let (unprocessed, going_away) = h2_says(&error);
        let never_sent = error.is_connect() || error.is_builder() || unprocessed;
        let lasting = lasting(&error, &cause, host);
        let is_lasting = lasting.is_some();
        let transient = transient || unprocessed || going_away || io.is_some_and(is_broken_connection);
        let shown = text::shown(&cause);
        let (kind, what) = if let Some(what) = lasting {
            (ErrorKind::Connection, what)
        } else if error.is_builder() {
            (ErrorKind::InvalidInput, format!("the request for {host} cannot be sent: {shown}"))
        } else if io == Some(io::ErrorKind::ConnectionRefused) {
            (ErrorKind::Connection, format!("{host} refused the connection: nothing listens there"))
        } else if never_sent && error.is_timeout() {
            (ErrorKind::Timeout, format!("no connection to {host} in time"))
        } else if never_sent {
            (ErrorKind::Connection, format!("no connection to {host}: {shown}"))
        } else {
            (ErrorKind::Connection, format!("the connection to {host} broke before it answered: {shown}"))
        };
        let transient = transient && !is_lasting && !error.is_builder();
        let source = Some(Box::new(error) as _);
        Self { never_sent, transient, lasting: is_lasting, of_service: transient, source, ..Self::new(kind, what) }
    }

    /// The head of the answer came, but not all of its body.
    pub(crate) fn broken_off(error: reqwest::Error, host: &str, after: usize) -> Self {
        let error = error.without_url();
        let garbled = error.is_decode()
            && io_error(&error).is_some_and(|io| {
                matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other)
            });
        let failure = match garbled {
            true => Self {
                lasting: true,
                ..Self::new(
                    ErrorKind::UnexpectedAnswer,
                    format!("the answer of {host} is not in the coding that its Content-Encoding names"),
                )
            },
            false => Self {
                transient: true,
                of_service: true,
                ..Self::new(
                    ErrorKind::Connection,
                    format!("the answer of {host} broke off after {after} bytes of its body"),
                )
            },
        };
        Self { source: Some(Box::new(error)), ..failure }
    }

    pub(crate) fn too_large(host: &str, limit: usize) -> Self {
        let what = format!("the answer of {host} is larger than the {limit} bytes allowed");
        Self::new(ErrorKind::UnexpectedAnswer, what)
    }

    /// The failure as the user gets it.
    pub(crate) fn into_error(self) -> Error {
        let error = Error::new(self.kind, self.what).lasting(self.lasting);
        match self.source {
            Some(source) => error.with_boxed_source(source),
            None => error,
        }
    }
}

/// What lasts until somebody mends it, in words that say who can.
fn lasting(error: &reqwest::Error, cause: &str, host: &str) -> Option<String> {
    if !error.is_connect() {
        return None;
    }
    if cause.contains("tunnel error: proxy authorization required") {
        return Some(format!("the proxy on the way to {host} wants credentials (407): give them in its URL"));
    }
    if cause.contains("tunnel error: unsuccessful") {
        return Some(format!("the proxy on the way to {host} refuses to connect to it: ask who runs the proxy"));
    }
    crate::tls::fault(cause).map(|fault| format!("no connection to {host}: {fault}"))
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
