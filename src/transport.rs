//! How one host is reached: one request, sent once, and its whole answer, bounded.
//!
//! The connections are reqwest's, and it drops none that has fallen silent. So after an attempt that was not answered in its
//! time, the next ones go over a fresh client with the same configuration, and the old one drains. Each runtime has a client
//! of its own: a connection is driven by the runtime that made it, and that one may stand still.
//!
//! While none is open reqwest makes a connection for each request. Where HTTP/2 is spoken, all who log in at nine, or who fell
//! silent together, would so begin as many handshakes, of which one is of use: one of them goes first instead, and the others over
//! its connection. So it is again, with a fresh client, when nothing was asked for so long that the connection was closed.
//!
//! Nor does it make a second connection where HTTP/2 is spoken, and a host bears a number of streams on each: those beyond wait
//! where nobody sees it, for an operation that hangs perhaps. They go over one more client.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::Either;
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue, Uri, Version};
use reqwest::{Request, Response, Url, redirect};
use reqwest_middleware::{ClientWithMiddleware, Middleware};
use serde_json::value::RawValue;
use tokio::runtime::{self, Handle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::answer::Answer;
use crate::coding::{self, Trouble};
use crate::error::Error;
use crate::exact;
use crate::failure::{Failure, Outcome, innermost};
use crate::proxy::Proxy;
use crate::region::is_loopback;
use crate::retry::after;
use crate::tls::{self, Tls};

/// A client is replaced no more often than this.
const RENEWED_EVERY: Duration = Duration::from_secs(5);
/// Others wait no longer for the one who goes first: by then it has a connection as a rule, answered or not. Nor for a place on one.
const GOES_FIRST: Duration = Duration::from_millis(500);
/// What a Content-Length alone makes us set aside.
const MOST_AT_ONCE: usize = 4 * 1024 * 1024;
/// A refusal says enough with its status: so much of its body is read, for no longer than this.
const REFUSAL_BYTES: usize = 64 * 1024;
const REFUSAL_TIME: Duration = Duration::from_secs(2);
/// A proxy that was asked for its reason is waited for no longer.
const PROXY_SAYS: Duration = Duration::from_secs(2);
/// A client is not made anew for each attempt, however short its connections are kept.
const KEPT_AT_LEAST: Duration = Duration::from_secs(1);
/// There are no more clients than so many, of all runtimes.
const CLIENTS: usize = 1_024;
/// A host that speaks HTTP/2 is to bear at least as many streams on a connection (RFC 9113 §6.5.2).
const STREAMS: usize = 100;
/// A time that is longer is cut to this: hyper adds them to the clock, which has an end.
const A_YEAR: Duration = Duration::from_secs(365 * 86_400);

/// How connections are made and kept.
#[derive(Clone)]
pub(crate) struct HttpSettings {
    pub(crate) connect_timeout: Duration,
    pub(crate) pool_idle_timeout: Duration,
    pub(crate) tcp_keepalive: Duration,
    pub(crate) http2_ping_interval: Duration,
    pub(crate) http2_ping_timeout: Duration,
    pub(crate) gzip: bool,
    pub(crate) proxy: Option<Proxy>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            // Load balancers keep idle connections for 60 s, as a rule. What goes out on one just as it is closed may have been
            // acted on, so what must not act twice cannot be sent again: ours is closed first.
            pool_idle_timeout: Duration::from_secs(50),
            tcp_keepalive: Duration::from_secs(30),
            http2_ping_interval: Duration::from_secs(30),
            http2_ping_timeout: Duration::from_secs(10),
            gzip: true,
            proxy: None,
        }
    }
}

/// The way to one host.
pub(crate) struct Transport {
    settings: HttpSettings,
    tls: Tls,
    /// To loopback: without a proxy, and `http` is allowed.
    direct: bool,
    /// One host, to which one connection may be enough for all.
    one_goes_first: bool,
    /// It speaks HTTP/2, or may, as long as nothing was answered.
    speaks_http2: Arc<AtomicBool>,
    middlewares: Vec<Arc<dyn Middleware>>,
    lines: Mutex<Vec<Line>>,
}

/// A client of one runtime.
struct Line {
    runtime: Option<runtime::Id>,
    http: Arc<Http>,
    renewed: Option<Instant>,
    /// When it was last asked for.
    used: Instant,
}

impl Transport {
    pub(crate) fn new(
        settings: HttpSettings,
        tls: Tls,
        base: &Url,
        one_goes_first: bool,
        middlewares: Vec<Arc<dyn Middleware>>,
    ) -> Result<Self, Error> {
        let (direct, speaks_http2) = (is_loopback(base), Arc::new(AtomicBool::new(one_goes_first)));
        let transport =
            Self { settings, tls, direct, one_goes_first, speaks_http2, middlewares, lines: Mutex::default() };
        // What cannot be set up is told now.
        transport.make(false).map(|_| transport)
    }

    /// A client that has no connections yet.
    pub(crate) fn make(&self, counts_places: bool) -> Result<Arc<Http>, Error> {
        let settings = &self.settings;
        let mut builder = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .https_only(!self.direct)
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(settings.pool_idle_timeout.min(A_YEAR))
            .tcp_keepalive(settings.tcp_keepalive)
            .http2_keep_alive_interval(settings.http2_ping_interval.min(A_YEAR))
            .http2_keep_alive_timeout(settings.http2_ping_timeout.min(A_YEAR))
            // `coding` undoes what was asked for here, whatever of reqwest others have switched on.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate();
        if settings.gzip {
            let gzip = (ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
            builder = builder.default_headers(HeaderMap::from_iter([gzip]));
        }
        builder = match &settings.proxy {
            Some(proxy) if !self.direct => builder.proxy(proxy.of_reqwest()),
            // The environment has been read. `reqwest` would read it again, and not alike.
            _ => builder.no_proxy(),
        };
        let client = self.tls.configure(builder).build();
        let client = client.map_err(|error| {
            let why = innermost(&error);
            Error::invalid_input(format!("the HTTP client cannot be set up: {why}")).with_source(error.without_url())
        })?;
        let with_middlewares = (!self.middlewares.is_empty()).then(|| {
            let builder = reqwest_middleware::ClientBuilder::new(client.clone());
            self.middlewares.iter().cloned().fold(builder, reqwest_middleware::ClientBuilder::with_arc).build()
        });
        let proxy = settings.proxy.clone().filter(|_| !self.direct);
        let (speaks_http2, first) = (Arc::clone(&self.speaks_http2), Arc::new(Semaphore::new(1)));
        if !self.one_goes_first || !speaks_http2.load(Ordering::Relaxed) {
            first.close();
        }
        let (places, heard) = (Arc::new(Semaphore::new(STREAMS)), Mutex::default());
        Ok(Arc::new(Http { client, with_middlewares, proxy, speaks_http2, first, counts_places, places, heard }))
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether HTTP/2 is spoken, or may be.
    pub(crate) fn speaks_http2(&self) -> bool {
        self.speaks_http2.load(Ordering::Relaxed)
    }

    /// The client to send with from here, the attempt's place on its connection, if places are counted, and its turn, if one goes
    /// first: both are held until the attempt is over. Where all places are taken one is waited for a moment, before another
    /// connection is made.
    pub(crate) async fn http(&self, now: Instant, until: Instant) -> Result<(Arc<Http>, [Option<Place>; 2]), Error> {
        let (mut http, mut place) = self.line(now, false)?;
        if place.is_none() && http.counts() {
            match Box::pin(timeout(moment(until), Arc::clone(&http.places).acquire_owned())).await {
                Ok(free) => place = free.ok(),
                Err(_) => (http, place) = self.line(Instant::now(), true)?,
            }
        }
        let turn = http.turn(until).await;
        Ok((http, [place, turn]))
    }

    /// Of the clients of this runtime the first that has a place; if none has, one more, or the last.
    fn line(&self, now: Instant, one_more: bool) -> Result<(Arc<Http>, Option<Place>), Error> {
        let here = Handle::try_current().ok().map(|runtime| runtime.id());
        let (mut lines, mut full) = (self.lines(), None);
        // What was not used for so long has no connection any more, and its runtime may be gone. Whoever comes now would make one.
        lines.retain(|line| {
            now.saturating_duration_since(line.used) <= self.settings.pool_idle_timeout.max(KEPT_AT_LEAST)
        });
        for line in lines.iter_mut().filter(|line| line.runtime == here) {
            line.used = now;
            let place = line.http.place();
            if place.is_some() || !line.http.counts() {
                return Ok((Arc::clone(&line.http), place));
            }
            full = Some(Arc::clone(&line.http));
        }
        let counts = full.is_some();
        if let (Some(full), false) = (full, one_more) {
            return Ok((full, None));
        }
        if lines.len() >= CLIENTS
            && let Some((oldest, _)) = lines.iter().enumerate().min_by_key(|(_, line)| line.used)
        {
            lines.remove(oldest);
        }
        // With this configuration a client was made before, so this one is too.
        let http = self.make(counts)?;
        lines.push(Line { runtime: here, http: Arc::clone(&http), renewed: None, used: now });
        let place = http.place();
        Ok((http, place))
    }

    /// An attempt over this client, sent then, was not answered in all its time, or in what its call had left: the next one takes
    /// new connections, unless others were answered over this one.
    pub(crate) fn renew(&self, quiet: &Arc<Http>, sent: Instant, all_its_time: bool) {
        let now = Instant::now();
        let mut lines = self.lines();
        let Some(line) = lines.iter_mut().find(|line| Arc::ptr_eq(&line.http, quiet)) else { return };
        let lately = |at: Instant| now.saturating_duration_since(at) < RENEWED_EVERY;
        let heard = quiet.heard.lock().unwrap_or_else(PoisonError::into_inner).filter(|at| *at > sent);
        let is_alive = match all_its_time {
            // Of HTTP/1.1 it was another connection.
            true => quiet.speaks_http2() && heard.is_some_and(lately),
            // One call's own haste is no reason.
            false => heard.is_some(),
        };
        if line.renewed.is_some_and(lately) || is_alive {
            return;
        }
        if let Ok(http) = self.make(quiet.counts()) {
            line.http = http;
            line.renewed = Some(now);
        }
    }

    /// Whether an address can go out byte for byte as it was given: past what only reqwest has.
    pub(crate) fn sends_exact(&self, url: &Url) -> bool {
        let proxied = !self.direct && self.settings.proxy.as_ref().is_some_and(|proxy| proxy.is_for(url));
        self.middlewares.is_empty() && !proxied && (url.scheme() == "http" || tls::WITHOUT_REQWEST)
    }

    /// The same as [`Http::exchange`], with an address as it was given.
    pub(crate) async fn exchange_exact(&self, request: Request, to: &Uri, host: &str, reading: Reading) -> Outcome {
        let sent = exact::send(request, to, &self.tls, self.settings.connect_timeout).await;
        let sent = sent.ok_or_else(|| Failure::no_connection(host))?;
        read(sent.map_err(|error| Failure::of_hyper(error, host))?, host, reading).await
    }
}

/// A client of reqwest's, and the user's middlewares around it, if there are any.
pub(crate) struct Http {
    client: reqwest::Client,
    with_middlewares: Option<ClientWithMiddleware>,
    proxy: Option<Proxy>,
    /// Of the host.
    speaks_http2: Arc<AtomicBool>,
    /// Who goes first, until an answer came; closed where all may go at once.
    first: Arc<Semaphore>,
    /// From the first attempt on, as HTTP/2 was spoken before.
    counts_places: bool,
    /// On its connection, where HTTP/2 is spoken.
    places: Arc<Semaphore>,
    /// When it last brought a whole answer.
    heard: Mutex<Option<Instant>>,
}

pub(crate) type Place = OwnedSemaphorePermit;

/// So long others are waited for: a part of the time until then at most.
fn moment(until: Instant) -> Duration {
    GOES_FIRST.min(until.saturating_duration_since(Instant::now()) / 4)
}

impl Http {
    /// Waits for the one who goes first, for a part of the time until then at most.
    async fn turn(&self, until: Instant) -> Option<Place> {
        if self.first.is_closed() {
            return None;
        }
        Box::pin(timeout(moment(until), Arc::clone(&self.first).acquire_owned())).await.ok()?.ok()
    }

    /// The request on its way, and its whole answer. It is handed over here, so that no future of ours holds it.
    pub(crate) fn exchange<'h>(
        &'h self,
        request: Request,
        host: &'h str,
        reading: Reading,
    ) -> impl Future<Output = Outcome> + Send + use<'h> {
        let proxy = self.proxy.as_ref().filter(|proxy| proxy.is_for(request.url()));
        let asked = proxy.map(|proxy| Box::new((proxy, request.url().clone())));
        let then = move |sent: Result<Response, reqwest_middleware::Error>| match sent {
            Ok(response) => {
                self.answered(&response);
                Either::Left(read(response, host, reading))
            }
            Err(error) => Either::Right(Box::pin(async move { Err(self.failed(error, host, asked).await) })),
        };
        match &self.with_middlewares {
            None => Either::Left(self.client.execute(request).then(|sent| then(sent.map_err(Into::into)))),
            Some(client) => Either::Right(Box::pin(async move {
                then(client.execute_with_extensions(request, &mut http::Extensions::new()).await).await
            })),
        }
    }

    /// Why nothing came; where a proxy refused, with what it says when it is asked.
    async fn failed(&self, error: reqwest_middleware::Error, host: &str, asked: Option<Box<(&Proxy, Url)>>) -> Failure {
        let (proxy, url) = asked.map(|asked| *asked).unzip();
        let failure = Failure::of_transport(error, host, proxy.map(Proxy::name));
        let (true, Some(proxy), Some(url)) = (failure.proxy_refused, proxy, url) else { return failure };
        match timeout(PROXY_SAYS, proxy.says(&url)).await.ok().flatten() {
            Some(status) if !status.is_success() => failure.proxy_said(status, host, proxy),
            _ => failure,
        }
    }

    /// A whole answer came.
    pub(crate) fn hears(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Until it is known what is spoken they are not: all who wait for the first one's connection go over it.
    fn counts(&self) -> bool {
        self.speaks_http2() && (self.counts_places || self.first.is_closed())
    }

    fn place(&self) -> Option<Place> {
        if self.counts() { Arc::clone(&self.places).try_acquire_owned().ok() } else { None }
    }

    fn speaks_http2(&self) -> bool {
        self.speaks_http2.load(Ordering::Relaxed)
    }

    /// There is a connection now.
    fn answered(&self, response: &Response) {
        let is_http2 = response.version() == Version::HTTP_2;
        if is_http2 != self.speaks_http2() {
            self.speaks_http2.store(is_http2, Ordering::Relaxed);
        }
        if !self.first.is_closed() {
            self.first.close();
        }
    }
}

/// How an answer is read.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    /// Its body is no larger.
    pub(crate) most: usize,
    /// A login's, which cannot be had again: what is not in the coding it is said to be in is read as far as it can be, and a token
    /// that came whole is taken however the answer ends.
    pub(crate) once: bool,
    /// When it was asked for.
    pub(crate) sent: Instant,
    /// All of it must be there by then.
    pub(crate) until: Instant,
    /// What else than the attempt's time is over then.
    pub(crate) whole: Option<&'static str>,
}

/// The whole answer.
#[expect(clippy::manual_async_fn, reason = "the future of an `async fn` has room for each argument twice")]
fn read(mut response: Response, host: &str, reading: Reading) -> impl Future<Output = Outcome> + Send {
    async move {
        if !response.status().is_success() {
            let words = Box::pin(words_of(&mut response, reading.until)).await;
            let (words, _) = coding::plain(words, response.headers(), REFUSAL_BYTES);
            return Ok(answer(response, words));
        }
        let Reading { most, once, .. } = reading;
        let (body, failure) = match body_of(&mut response, host, &reading).await {
            (_, Some(failure)) if !once => return Err(headed(failure, &response)),
            came => came,
        };
        let received = body.len();
        let (body, trouble) = coding::plain(body, response.headers(), most);
        let failure = failure.or_else(|| match trouble {
            Some(Trouble::TooLarge) => Some(Failure::too_large(host, most)),
            Some(Trouble::BrokenOff) => Some(Failure::broken_off(None, host, received)),
            Some(Trouble::Garbled) if !once => Some(Failure::garbled(host)),
            _ => None,
        });
        match failure {
            Some(failure) if !once || !has_token(&body) => Err(headed(failure, &response)),
            _ => Ok(answer(response, body)),
        }
    }
}

/// All of a body; or what came of it, and why that is not all. One in one piece is kept as it came; one in many is put together
/// where there is room for all of it.
async fn body_of(response: &mut Response, host: &str, reading: &Reading) -> (Bytes, Option<Failure>) {
    let &Reading { most, until, whole, sent, .. } = reading;
    let (mut first, mut joined) = (Bytes::new(), BytesMut::new());
    let failure = loop {
        let received = first.len() + joined.len();
        let chunk = match timeout_at(until, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break None,
            Ok(Err(error)) => break Some(Failure::broken_off(Some(error), host, received)),
            Err(_) => break Some(Failure::timed_out(host, whole, sent.elapsed(), true)),
        };
        if received.saturating_add(chunk.len()) > most {
            break Some(Failure::too_large(host, most));
        }
        if received == 0 {
            first = chunk;
            continue;
        }
        if joined.is_empty() {
            let left = response.content_length().map_or(0, |left| usize::try_from(left).unwrap_or(usize::MAX));
            let expected = received.saturating_add(chunk.len()).saturating_add(left);
            joined.reserve(expected.min(most).min(MOST_AT_ONCE));
            joined.extend_from_slice(&std::mem::take(&mut first));
        }
        joined.extend_from_slice(&chunk);
    };
    (if joined.is_empty() { first } else { joined.freeze() }, failure)
}

/// Whether it is a whole JSON object that brings a token: what follows it tells nothing more.
fn has_token(body: &[u8]) -> bool {
    let object: Option<HashMap<Cow<'_, str>, &RawValue>> = serde_json::from_slice(body).ok();
    let is_text = |value: &&RawValue| value.get().starts_with('"') && value.get() != r#""""#;
    let has = |name: &&str| object.as_ref().and_then(|object| object.get(*name)).is_some_and(is_text);
    ["access_token", "refresh_token"].iter().any(has)
}

fn headed(failure: Failure, response: &Response) -> Failure {
    failure.after_head(response.status(), response.headers())
}

fn answer(mut response: Response, body: Bytes) -> Box<Answer> {
    Answer::new(response.status(), std::mem::take(response.headers_mut()), body)
}

/// What a refusal says. One that breaks off, or does not end, is one all the same.
async fn words_of(response: &mut Response, until: Instant) -> Bytes {
    let until = after(Instant::now(), REFUSAL_TIME).min(until);
    let mut words = BytesMut::new();
    while words.len() < REFUSAL_BYTES {
        match timeout_at(until, response.chunk()).await {
            Ok(Ok(Some(chunk))) => words.extend_from_slice(&chunk),
            _ => break,
        }
    }
    words.freeze()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use reqwest_middleware::Next;
    use tokio::time::advance;

    use super::*;

    const NEAR: &str = "http://127.0.0.1:1";
    const FAR: &str = "https://api.example";

    fn transport(base: &str, proxy: Option<Proxy>, middlewares: Vec<Arc<dyn Middleware>>) -> Transport {
        let tls = Tls::new(&[], None, base == FAR).unwrap();
        let settings = HttpSettings { proxy, ..HttpSettings::default() };
        Transport::new(settings, tls, &base.parse().unwrap(), base == FAR, middlewares).unwrap()
    }

    fn answer(version: Version) -> Response {
        http::Response::builder().version(version).body("").unwrap().into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_replaced_by_who_it_was_silent_to_and_once_in_five_seconds() {
        let transport = transport(NEAR, None, Vec::new());
        let is_used = |http: &Arc<Http>| Arc::ptr_eq(http, &transport.line(Instant::now(), false).unwrap().0);
        let first = transport.line(Instant::now(), false).unwrap().0;
        assert!(is_used(&first));
        transport.renew(&first, Instant::now(), true);
        let second = transport.line(Instant::now(), false).unwrap().0;
        assert!(!is_used(&first));
        // Others hear nothing from the first either, and the second is too young.
        transport.renew(&first, Instant::now(), true);
        transport.renew(&second, Instant::now(), true);
        advance(RENEWED_EVERY - Duration::from_millis(1)).await;
        transport.renew(&second, Instant::now(), true);
        assert!(is_used(&second));
        advance(Duration::from_millis(1)).await;
        transport.renew(&second, Instant::now(), true);
        assert!(!is_used(&second));
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_first_is_waited_for_until_it_is_answered_and_never_long() {
        let transport = transport(FAR, None, Vec::new());
        let http = transport.line(Instant::now(), false).unwrap().0;
        let turn = http.turn(soon()).await;
        assert!(turn.is_some());
        // Nobody spends more of its time on that than a quarter, or more than half a second.
        for (left, waits) in [(1_000, 250), (100_000, 500), (0, 0)] {
            let began = Instant::now();
            assert!(http.turn(began + Duration::from_millis(left)).await.is_none());
            assert!((waits..waits + 3).contains(&began.elapsed().as_millis()), "{left}: {:?}", began.elapsed());
        }
        http.answered(&answer(Version::HTTP_2));
        drop(turn);
        assert!(http.turn(soon()).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_silence_one_goes_first_unless_http1_was_spoken() {
        for (answered, goes_first) in [(None, true), (Some(Version::HTTP_2), true), (Some(Version::HTTP_11), false)] {
            let transport = transport(FAR, None, Vec::new());
            let first = transport.line(Instant::now(), false).unwrap().0;
            answered.iter().for_each(|version| first.answered(&answer(*version)));
            transport.renew(&first, Instant::now(), true);
            // One more after that: nothing was answered since.
            advance(RENEWED_EVERY).await;
            let second = transport.line(Instant::now(), false).unwrap().0;
            transport.renew(&second, Instant::now(), true);
            for http in [second, transport.line(Instant::now(), false).unwrap().0] {
                assert_eq!(http.turn(soon()).await.is_some(), goes_first, "{answered:?}");
            }
        }
        let near = transport(NEAR, None, Vec::new());
        let http = near.line(Instant::now(), false).unwrap().0;
        near.renew(&http, Instant::now(), true);
        assert!(near.line(Instant::now(), false).unwrap().0.turn(soon()).await.is_none(), "of http");
    }

    #[tokio::test(start_paused = true)]
    async fn one_goes_first_again_when_the_connection_was_closed_for_being_idle() {
        for (version, is_http2) in [(Version::HTTP_11, false), (Version::HTTP_2, true)] {
            let transport = transport(FAR, None, Vec::new());
            let http = transport.line(Instant::now(), false).unwrap().0;
            http.answered(&answer(version));
            for _ in 0..3 {
                advance(HttpSettings::default().pool_idle_timeout).await;
                assert!(Arc::ptr_eq(&http, &transport.line(Instant::now(), false).unwrap().0), "it was in use");
            }
            advance(HttpSettings::default().pool_idle_timeout + Duration::from_secs(1)).await;
            let next = transport.line(Instant::now(), false).unwrap().0;
            assert!(!Arc::ptr_eq(&http, &next), "{version:?}");
            assert_eq!(next.turn(soon()).await.is_some(), is_http2, "{version:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_over_which_others_were_answered_just_now_is_not_replaced() {
        for version in [Version::HTTP_2, Version::HTTP_11] {
            let transport = transport(FAR, None, Vec::new());
            let http = transport.line(Instant::now(), false).unwrap().0;
            let is_used = || Arc::ptr_eq(&http, &transport.line(Instant::now(), false).unwrap().0);
            http.answered(&answer(version));
            let sent = Instant::now();
            advance(Duration::from_secs(11)).await;
            http.hears();
            advance(RENEWED_EVERY - Duration::from_millis(1)).await;
            transport.renew(&http, sent, false);
            assert!(is_used(), "a call in haste");
            transport.renew(&http, sent, true);
            assert_eq!(is_used(), version == Version::HTTP_2, "of HTTP/1.1 it was another connection");
            // It has fallen silent since.
            transport.renew(&http, Instant::now(), version == Version::HTTP_2);
            assert!(!is_used());
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(2)
    }

    struct Passes;

    #[async_trait::async_trait]
    impl Middleware for Passes {
        async fn handle(
            &self,
            request: Request,
            extensions: &mut http::Extensions,
            next: Next<'_>,
        ) -> reqwest_middleware::Result<Response> {
            next.run(request, extensions).await
        }
    }

    #[test]
    fn an_address_goes_out_as_it_was_given_past_no_middleware_and_no_proxy() {
        let sends = |transport: Transport, url: &str| transport.sends_exact(&Url::parse(url).unwrap());
        let (near, far) = ("http://127.0.0.1:1/'", "https://files.example/'");
        let proxy = || Some(Proxy::given("proxy:3128").unwrap());
        let all_but = |host: &'static str| {
            Proxy::of_environment(move |name| match name {
                "HTTPS_PROXY" => Some("proxy:3128".into()),
                "NO_PROXY" => Some(host.into()),
                _ => None,
            })
        };
        assert!(sends(transport(NEAR, None, Vec::new()), near));
        assert!(sends(transport(NEAR, proxy(), Vec::new()), near), "there is no proxy to loopback");
        assert_eq!(sends(transport(FAR, None, Vec::new()), far), tls::WITHOUT_REQWEST);
        assert_eq!(sends(transport(FAR, all_but("files.example").unwrap(), Vec::new()), far), tls::WITHOUT_REQWEST);
        assert!(!sends(transport(FAR, proxy(), Vec::new()), far));
        assert!(!sends(transport(FAR, all_but("other.example").unwrap(), Vec::new()), far));
        assert!(!sends(transport(NEAR, None, vec![Arc::new(Passes)]), near));
        assert!(!sends(transport(FAR, None, vec![Arc::new(Passes)]), far));
    }
}
