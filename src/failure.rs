//! Attempts that got no whole answer: what happened, and whether the request had left.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use h2::Reason;
use http::{HeaderMap, StatusCode};
use reqwest_retry::{Retryable, default_on_request_failure};

use crate::answer::{Answer, correlation_id};
use crate::error::{Error, ErrorKind};
use crate::proxy::Proxy;
use crate::{text, tls};

/// An attempt that its own call cut short sooner than this says nothing of the service.
const UNANSWERED: Duration = Duration::from_secs(5);
/// Nor, sooner than this, of its connection.
const QUIET: Duration = Duration::from_secs(1);

/// What an attempt came to.
pub(crate) type Outcome = Result<Box<Answer>, Failure>;

/// An attempt that got no whole answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) what: String,
    /// The request never left this machine, so sending it again cannot act twice.
    pub(crate) never_sent: bool,
    /// Another attempt may fare better.
    pub(crate) transient: bool,
    /// It lasts until somebody mends it: a certificate, a proxy that refuses.
    pub(crate) lasting: bool,
    /// It speaks of the service: many of these, and nothing else, are an outage.
    pub(crate) of_service: bool,
    /// Nothing came back on its connection in all of its time, or no more of an answer that had begun.
    pub(crate) silent: bool,
    /// The same, or for so long that the connection may be dead, however slow the service is.
    pub(crate) quiet: bool,
    /// The proxy has answered, and did not open the way; with what, nobody tells.
    pub(crate) proxy_refused: bool,
    /// The head of an answer came: its status and correlation id.
    pub(crate) answered: Option<Box<(StatusCode, Option<String>)>>,
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
            quiet: false,
            proxy_refused: false,
            answered: None,
            source: None,
        }
    }

    /// No client could be made to send it with.
    pub(crate) fn not_built(error: Error) -> Self {
        Self { never_sent: true, ..Self::new(error.kind(), error.to_string()) }
    }

    /// Its time ran out: the attempt's, or, where that was shorter, what was left of all that its call had, by whatever name.
    pub(crate) fn timed_out(host: &str, whole: Option<&str>, waited: Duration, had_begun: bool) -> Self {
        let what = match whole {
            Some(whole) => format!("{whole} ran out before all of the answer of {host} was there"),
            None => {
                let missing = if had_begun { "send all of its answer" } else { "answer" };
                format!("{host} did not {missing} within {:.1} s", waited.as_secs_f64())
            }
        };
        let silent = whole.is_none() || waited >= UNANSWERED;
        let quiet = silent || !had_begun && waited >= QUIET;
        Self { transient: true, of_service: silent, silent, quiet, ..Self::new(ErrorKind::Timeout, what) }
    }

    /// A connection was not made in its time.
    pub(crate) fn no_connection(host: &str) -> Self {
        let what = format!("no connection to {host} in time");
        Self { never_sent: true, transient: true, of_service: true, ..Self::new(ErrorKind::Timeout, what) }
    }

    /// What reqwest or a middleware of the user's reports instead of a response.
    pub(crate) fn of_transport(error: reqwest_middleware::Error, host: &str, proxy: Option<&str>) -> Self {
        let transient = matches!(default_on_request_failure(&error), Some(Retryable::Transient));
        match error {
            // There is no such request, as where a middleware gave it another address.
            reqwest_middleware::Error::Reqwest(error) if error.is_builder() => {
                let error = error.without_url();
                let what = format!("the request for {host} cannot be sent: {}", text::shown(&innermost(&error)));
                Self { never_sent: true, source: Some(Box::new(error)), ..Self::new(ErrorKind::InvalidInput, what) }
            }
            reqwest_middleware::Error::Reqwest(error) => {
                let told = Told { connect: error.is_connect(), timeout: error.is_timeout(), transient };
                Self::of_connection(Box::new(error.without_url()), &told, host, proxy)
            }
            reqwest_middleware::Error::Middleware(error) => {
                // One that speaks of the connection is believed.
                let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
                let broken = io.is_some_and(is_broken_connection);
                let failure = match broken {
                    true => {
                        Self::new(ErrorKind::Connection, format!("the connection to {host} broke before it answered"))
                    }
                    false => Self::new(ErrorKind::Middleware, "a middleware of yours failed"),
                };
                let never_sent = io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused);
                Self { never_sent, transient: broken, of_service: broken, source: Some(error.into()), ..failure }
            }
        }
    }

    /// What hyper reports instead of a response.
    pub(crate) fn of_hyper(error: hyper_util::client::legacy::Error, host: &str) -> Self {
        let io = io_error(&error).map(io::Error::kind);
        let broken = causes(&error)
            .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
            .any(|cause| cause.is_incomplete_message() || cause.is_canceled());
        let (connect, timeout) = (error.is_connect(), io == Some(io::ErrorKind::TimedOut));
        Self::of_connection(Box::new(error), &Told { connect, timeout, transient: connect || broken }, host, None)
    }

    fn of_connection(error: Box<dyn StdError + Send + Sync>, told: &Told, host: &str, proxy: Option<&str>) -> Self {
        let met: &(dyn StdError + 'static) = &*error;
        let (cause, io) = (innermost(met), io_error(met));
        let http2 = causes(met).find_map(|cause| cause.downcast_ref::<h2::Error>());
        // Of a connection that goes away h2 says so only of the streams that were not acted on (RFC 9113 §6.8).
        let unprocessed = http2.is_some_and(|http2| {
            http2.is_remote() && (http2.is_go_away() || http2.reason() == Some(Reason::REFUSED_STREAM))
        });
        let is_no_http = is_no_http(met);
        // A server that refuses who we are hands nothing on.
        let never_sent = told.connect || unprocessed || tls::refuses_identity(&cause);
        let way = Way { host, proxy, at_proxy: causes(met).any(|cause| cause.to_string().starts_with("tunnel error")) };
        let lasting = if never_sent { way.lasting(&cause) } else { None };
        let is_lasting = lasting.is_some();
        // Whatever reason the other end gives for a stream or a connection that it ends: a new one may fare better.
        let transient =
            told.transient || http2.is_some_and(h2::Error::is_remote) || io.is_some_and(is_broken_connection);
        let shown = text::shown(&cause);
        let (kind, what) = if let Some(what) = lasting {
            (ErrorKind::Connection, what)
        } else if way.at_proxy {
            (ErrorKind::Connection, way.proxy_fails(met, &cause))
        } else if is_no_http {
            let tls = if cause.contains(NO_HTTP) { " (does it want https?)" } else { "" };
            (ErrorKind::UnexpectedAnswer, format!("the answer of {host} is no HTTP that can be read{tls}: {shown}"))
        } else if io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
            (ErrorKind::Connection, format!("{host} refused the connection: nothing listens there"))
        } else if never_sent && told.timeout {
            (ErrorKind::Timeout, format!("no connection to {way} in time"))
        } else if never_sent {
            (ErrorKind::Connection, format!("no connection to {way}: {shown}"))
        } else {
            (ErrorKind::Connection, format!("the connection to {host} broke before it answered: {shown}"))
        };
        let transient = transient && !is_lasting;
        let of_service = transient && !way.at_proxy;
        let proxy_refused = way.at_proxy && cause.contains(PROXY_REFUSES);
        let source = Some(error);
        Self { never_sent, transient, lasting: is_lasting, of_service, proxy_refused, source, ..Self::new(kind, what) }
    }

    /// What the proxy says that did not open the way. Its answer to a request that it cannot serve now may be another next time.
    pub(crate) fn proxy_said(self, status: StatusCode, host: &str, proxy: &Proxy) -> Self {
        let lasting = status.is_client_error() && !matches!(status.as_u16(), 408 | 425 | 429);
        let way_round = if status == StatusCode::FORBIDDEN { proxy.way_round() } else { "" };
        let mend = match status.as_u16() {
            403 => "it is not allowed there: have it allowed by whoever runs the proxy",
            405 => "it does not let anyone through (CONNECT): it is no proxy for https",
            _ if lasting => "ask who runs it",
            _ => "it cannot reach it now",
        };
        let what = format!("the proxy {} did not open the way to {host} ({status}): {mend}{way_round}", proxy.name());
        Self { what, lasting, transient: !lasting, ..self }
    }

    /// The head of the answer came, but not all of its body.
    pub(crate) fn broken_off(error: Option<reqwest::Error>, host: &str, after: usize) -> Self {
        let error = error.map(reqwest::Error::without_url);
        let is_no_http =
            error.as_ref().and_then(|error| io_error(error)).is_some_and(|io| io.kind() == io::ErrorKind::InvalidInput);
        let source = error.map(|error| Box::new(error) as _);
        if is_no_http {
            let what = format!("the answer of {host} is no HTTP that can be read, after {after} bytes of its body");
            return Self { source, ..Self::new(ErrorKind::UnexpectedAnswer, what) };
        }
        let what = format!("the answer of {host} broke off after {after} bytes of its body");
        Self { transient: true, of_service: true, source, ..Self::new(ErrorKind::Connection, what) }
    }

    /// All of its body came, but it is something else than it says.
    pub(crate) fn garbled(host: &str) -> Self {
        let what = format!("the answer of {host} is not in the coding that its Content-Encoding names (gzip)");
        Self::new(ErrorKind::UnexpectedAnswer, what)
    }

    pub(crate) fn too_large(host: &str, limit: usize) -> Self {
        let what = format!("the answer of {host} is larger than the {limit} bytes allowed (`max_body_bytes`)");
        Self::new(ErrorKind::UnexpectedAnswer, what)
    }

    /// With the head of the answer whose body it is about.
    pub(crate) fn after_head(self, status: StatusCode, headers: &HeaderMap) -> Self {
        let correlation_id = correlation_id(headers).map(str::to_owned);
        Self { answered: Some(Box::new((status, correlation_id))), ..self }
    }

    /// What the other end says of a connection that it ends may repeat what it was sent. A source cannot be changed, so one that
    /// shows a secret is dropped.
    pub(crate) fn redacted(self, secrets: &[&str]) -> Self {
        let is_clean = |cause: &(dyn StdError + 'static)| {
            let text = format!("{cause} {cause:?}");
            text::redact(&text, secrets) == text
        };
        let source = self.source.filter(|source| is_clean(&**source) && causes(&**source).all(is_clean));
        Self { what: text::redact(&self.what, secrets), source, ..self }
    }

    /// The failure as the user gets it.
    pub(crate) fn into_error(self, secrets: &[&str]) -> Error {
        let error = Error::new(self.kind, self.what).lasting(self.lasting);
        let error = match self.answered.map(|answered| *answered) {
            Some((status, id)) => error.with_answer(status, id.map(|id| text::redact(&id, secrets).into())),
            None => error,
        };
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

/// What is told of a request that was not answered.
struct Told {
    /// No connection was made.
    connect: bool,
    timeout: bool,
    /// Another attempt may fare better.
    transient: bool,
}

/// What hyper-util says of a proxy that answers CONNECT with 407, with anything else that is no 200, and with nothing.
const PROXY_WANTS_CREDENTIALS: &str = "tunnel error: proxy authorization required";
const PROXY_REFUSES: &str = "tunnel error: unsuccessful";
const PROXY_CLOSES: &str = "tunnel error: unexpected end of file";
/// What hyper says of an answer that does not begin with `HTTP/1`.
const NO_HTTP: &str = "invalid HTTP version parsed";

/// How a host was to be reached.
struct Way<'a> {
    host: &'a str,
    proxy: Option<&'a str>,
    /// It failed before the proxy had opened it: nothing is known of the host.
    at_proxy: bool,
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.at_proxy, self.proxy) {
            (true, _) => write!(f, "{} (on the way to {})", self.proxy(), self.host),
            (false, Some(proxy)) => write!(f, "{} through the proxy {proxy}", self.host),
            (false, None) => f.write_str(self.host),
        }
    }
}

impl Way<'_> {
    fn proxy(&self) -> String {
        self.proxy.map_or_else(|| "the proxy".to_owned(), |proxy| format!("the proxy {proxy}"))
    }

    /// What lasts until somebody mends it, in words that say who can.
    fn lasting(&self, cause: &str) -> Option<String> {
        if cause.contains(PROXY_WANTS_CREDENTIALS) {
            let (proxy, host) = (self.proxy(), self.host);
            return Some(format!(
                "{proxy} wants credentials (407) on the way to {host}: give user:password@ in its URL, or others than it has"
            ));
        }
        tls::fault(cause).map(|fault| format!("no connection to {self}: {fault}"))
    }

    /// What keeps a proxy from opening the way. It may pass: a proxy that cannot reach the host for a moment says 502 or
    /// 503, and hyper-util does not tell these from a 403, nor from what is no HTTP at all.
    fn proxy_fails(&self, error: &(dyn StdError + 'static), cause: &str) -> String {
        let (proxy, host, shown) = (self.proxy(), self.host, text::shown(cause));
        if cause.contains(PROXY_REFUSES) {
            return format!(
                "{proxy} did not open the way to {host}: it may not, or cannot reach it, or is no HTTP proxy; ask who runs it"
            );
        }
        if cause.contains(PROXY_CLOSES) {
            return format!("{proxy} closed the connection when asked for the way to {host}: is it an HTTP proxy?");
        }
        if io_error(error).is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
            return format!("no connection to {host}: {proxy} refused it, nothing listens there");
        }
        if causes(error).any(|cause| cause.to_string() == "dns error") {
            return format!("no connection to {host}: {proxy} is not known by this name ({shown})");
        }
        format!("no connection to {self}: {shown}")
    }
}

fn is_broken_connection(error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::TimedOut => true,
        io::ErrorKind::InvalidData => tls::is_passing_alert(&error.to_string()),
        _ => false,
    }
}

fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause: &&(dyn StdError + 'static)| (*cause).source())
}

/// HTTP/2 keeps its own within.
fn io_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e io::Error> {
    causes(error).find_map(|cause| match cause.downcast_ref::<h2::Error>() {
        Some(http2) => http2.get_io(),
        None => cause.downcast_ref(),
    })
}

/// Whether what came is against the rules of HTTP.
fn is_no_http(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| {
        cause.downcast_ref().is_some_and(hyper::Error::is_parse)
            || cause.downcast_ref().is_some_and(h2::Error::is_library)
    })
}

/// The innermost cause, which names the fact; those around it say where it was met.
pub(crate) fn innermost(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_is_not_let_through_is_told_of_no_proxy_where_it_is_read() {
        let named = Proxy::of_environment(|name| (name == "HTTPS_PROXY").then(|| "proxy:3128".into()));
        for (proxy, is_read) in [(named.unwrap().unwrap(), true), (Proxy::given("proxy:3128").unwrap(), false)] {
            let refused = Failure::new(ErrorKind::Connection, "refused");
            let said = refused.proxy_said(StatusCode::FORBIDDEN, "api.example:443", &proxy).what;
            assert!(said.contains("have it allowed by whoever runs the proxy"), "{said}");
            assert_eq!(said.contains("NO_PROXY"), is_read, "{said}");
        }
    }

    #[test]
    fn an_alert_that_ends_a_connection_is_met_by_another_unless_it_lasts() {
        for (words, passes) in [
            ("received fatal alert: InternalError", true),
            ("received fatal alert: BadRecordMac", true),
            ("received fatal alert: UserCanceled", true),
            ("received fatal alert: HandshakeFailure", false),
            ("received fatal alert: CertificateExpired", false),
            ("received fatal alert: AccessDenied", false),
            ("no alert at all", false),
        ] {
            let met = io::Error::new(io::ErrorKind::InvalidData, words);
            let failure =
                Failure::of_transport(reqwest_middleware::Error::Middleware(met.into()), "api.example:443", None);
            assert_eq!((failure.transient, failure.of_service), (passes, passes), "{words}");
            assert!(!failure.never_sent, "{words}");
        }
    }
}
