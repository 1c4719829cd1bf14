//! A call's way, from the request to the answer: the one loop every call runs through, logins too.
//!
//! 1. the token: held, or from a login shared by all who wait (`auth/token.rs`);
//! 2. admission: the operation's quota, its route's outage, then a slot among the attempts in flight to the host;
//! 3. the attempt: the request, built anew, with the bearer; the whole answer, bounded, in the attempt's time;
//! 4. what the outcome tells is settled with every gate at once, before anything waits;
//! 5. the verdict (`verdict.rs`): done, replace the token, wait for a limit, try again after a backoff, or fail.
//!
//! Nothing is held while it sleeps, but for the moment in which one makes the first connection for all, or in which a place on one
//! is waited for (`transport.rs`), and it never begins a sleep that would outlast the deadline.

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::Method;
use http::header::AUTHORIZATION;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::Instrument;

use crate::answer::Answer;
use crate::auth::token::{Token, TokenSlot};
use crate::client::{ClientShared, Host};
use crate::error::{Error, ErrorKind, GaveUp};
use crate::failure::{Failure, Outcome};
use crate::limits::Route;
use crate::limits::in_flight::{Share, Slot};
use crate::limits::login::{self, LoginGate, LoginPass};
use crate::limits::outage::{Counts, IsDown, Patience, Permit};
use crate::limits::quota::{QuotaGate, Reservation, TooManyRequests};
use crate::limits::window::QuotaHeaders;
use crate::request::{PATIENCE, Repeat, Spec};
use crate::retry::after;
use crate::spans;
use crate::transport::{Http, Reading};
use crate::verdict::{self, Asked, Signal, Verdict};
use crate::waits::{Wait, Waits};

/// What is known to be broken waits for its quota no longer: a little longer than for who goes first.
const BROKEN_WAITS: Duration = Duration::from_millis(1_500);

/// What the user asked for.
pub(crate) struct Call<'a> {
    pub(crate) spec: &'a Spec<'a>,
    pub(crate) authority: Authority<'a>,
    pub(crate) timeout: Duration,
}

/// On whose authority it is made, and so what admits it.
pub(crate) enum Authority<'a> {
    /// An agent's: its token is put on, its quota counts.
    Agent(&'a Arc<TokenSlot>),
    /// A login: the request carries its own credentials; the OAuth client's gate admits it.
    Login { gate: &'a LoginGate, slot: &'a TokenSlot, secrets: Vec<&'a str> },
    /// Its own: a signed URL, or the very token that a logout revokes. It carries it, and these secrets of it; a limit that it meets
    /// is for nobody else.
    Own { secrets: Vec<&'a str>, quota: QuotaGate },
}

impl<'a> Authority<'a> {
    /// What an answer must not be let echo, the agent's token being this.
    fn secrets(&self, token: Option<&'a str>) -> Vec<&'a str> {
        match self {
            Self::Login { secrets, .. } | Self::Own { secrets, .. } => secrets.clone(),
            Self::Agent(_) => token.into_iter().collect(),
        }
    }
}

/// Runs a call to its end.
pub(crate) async fn run(client: &ClientShared, call: &Call<'_>) -> Result<Box<Answer>, Error> {
    let span = spans::of_call(client.host(call.spec), call.spec);
    match span.is_disabled() {
        true => complete(client, call, &span).await,
        // Boxed, so that only those who listen carry it.
        false => Box::pin(complete(client, call, &span).instrument(span.clone())).await,
    }
}

/// Its own span, and no caller's, is what is recorded on.
async fn complete(client: &ClientShared, call: &Call<'_>, span: &tracing::Span) -> Result<Box<Answer>, Error> {
    let host = client.host(call.spec);
    let (route, shares) = host.route(call.spec.operation);
    let mut run = Run::new(client, call, host, &route, shares);
    client.counters.begun(run.is_login());
    let result = run.attempts().await;
    client.counters.ended(run.is_login(), result.as_ref().err());
    let took = result.as_ref().map_or_else(Error::elapsed, |answer| answer.elapsed);
    route.meter.called(took, result.as_ref().err());
    if !span.is_disabled() {
        let token = result.as_ref().ok().and_then(|answer| answer.token());
        spans::end_call(span, &result, run.attempts, &run.waits, &call.authority.secrets(token));
    }
    result
}

/// One call under way.
struct Run<'a> {
    client: &'a ClientShared,
    call: &'a Call<'a>,
    host: &'a Host,
    route: &'a Arc<Route>,
    /// Where other routes of the host are in use too.
    share: Option<&'a Share>,
    /// What it is about, as far as it can be broken itself.
    key: u64,
    started: Instant,
    deadline: Instant,
    /// When the first attempt was sent.
    began: Option<Instant>,
    /// Requests sent, or tried to be.
    attempts: u32,
    /// Attempts that ended in a failure (not in throttling or a replaced token): what the policy bounds.
    failures: u32,
    /// Those of them that were refusals (400).
    refusals: u32,
    token_replaced: bool,
    /// How often the agent had logged out when the call began.
    logouts: u64,
    /// What the last attempt met.
    last: Option<Error>,
    /// Attempts the service may have acted on without its answer reaching us.
    lost: u32,
    may_have_been_sent: bool,
    waits: Waits,
}

/// All that lets one attempt go; given back together.
struct Admitted<'a, 't> {
    login: Option<LoginPass<'a>>,
    quota: Option<Reservation<'t>>,
    _slot: Slot<'a>,
    sent: Sent,
}

/// What an attempt is sent as, and when.
#[derive(Clone, Copy)]
struct Sent {
    at: Instant,
    permit: Permit,
    /// The key is known to be broken: this attempt is the only one, and counts for nothing else.
    is_broken: bool,
}

impl<'a> Run<'a> {
    /// The loop, and nothing else.
    async fn attempts(&mut self) -> Result<Box<Answer>, Error> {
        loop {
            let token = self.token().await?;
            let quota = match &self.call.authority {
                Authority::Own { quota, .. } => Some(quota),
                _ => token.as_deref().map(Token::quota),
            };
            let Some(admitted) = self.admit(quota).await? else {
                continue; // The token was replaced meanwhile.
            };
            let outcome = self.attempt(token.as_deref(), admitted.sent).await;
            let now = Instant::now();
            let pause = match self.settle(token.as_ref(), admitted, outcome, now) {
                Verdict::Done(answer) => return Ok(self.done(answer, token.as_deref(), now)),
                Verdict::ReplaceToken(error) => {
                    self.token_replaced = true;
                    self.last = Some(error);
                    None
                }
                Verdict::Throttled(error) => {
                    self.after_limit(error)?;
                    None
                }
                Verdict::Retry(floor, error) => Some(self.after_failure(floor, error)?),
                Verdict::Fail(error) => return Err(self.ended(error)),
            };
            if let Some(until) = pause {
                self.waits.on(Wait::Backoff, &self.route.meter, pin!(sleep_until(until))).await;
            }
        }
    }

    fn new(client: &'a ClientShared, call: &'a Call<'a>, host: &'a Host, route: &'a Arc<Route>, shares: bool) -> Self {
        let started = Instant::now();
        Self {
            client,
            call,
            host,
            route,
            share: shares.then_some(&route.share),
            key: call.spec.key(),
            started,
            deadline: after(started, call.timeout),
            began: None,
            attempts: 0,
            failures: 0,
            refusals: 0,
            token_replaced: false,
            logouts: match &call.authority {
                Authority::Agent(slot) => slot.logouts(),
                _ => 0,
            },
            last: None,
            lost: 0,
            may_have_been_sent: false,
            waits: Waits::default(),
        }
    }

    fn is_login(&self) -> bool {
        matches!(self.call.authority, Authority::Login { .. })
    }

    /// It goes out with whatever token its agent has, and counts against that one's quota.
    fn agent(&self) -> Option<&'a Arc<TokenSlot>> {
        match &self.call.authority {
            Authority::Agent(slot) => Some(slot),
            _ => None,
        }
    }

    /// Whose call it is, to tell what follows a token from what follows a script.
    fn who(&self) -> u64 {
        self.agent().map_or(u64::MAX, |slot| slot.number)
    }

    /// The agent's token. A login that failed ends the call: its own loop is over.
    async fn token(&mut self) -> Result<Option<Arc<Token>>, Error> {
        let (Some(slot), spec) = (self.agent(), self.call.spec) else { return Ok(None) };
        let token = pin!(slot.token(spec.operation.name, self.logouts, self.deadline));
        match self.waits.on(Wait::Login, &self.route.meter, token).await {
            Ok(token) => Ok(Some(token)),
            // No login failed: nothing can replace the token. What the service said of it tells more.
            Err(error) if error.kind() == ErrorKind::Unauthorized => {
                let refused = self.last.clone().filter(|last| last.kind() == ErrorKind::Unauthorized);
                Err(self.ended(refused.unwrap_or(error)))
            }
            Err(error) => {
                let (host, took) = (self.client.login.name(), self.started.elapsed());
                Err(error.of_login(host, spec.operation.name, spec.named().as_deref(), self.attempts, took))
            }
        }
    }

    /// Takes all that an attempt needs, at once and without waiting; else waits for each in turn, and tries again. None where the
    /// token was replaced meanwhile.
    async fn admit<'t>(&mut self, quota: Option<&'t QuotaGate>) -> Result<Option<Admitted<'a, 't>>, Error> {
        let operation = self.call.spec.operation.name;
        let mut login = match self.is_login() {
            true => Box::pin(self.login_pass()).await?,
            false => None,
        };
        let mut now = Instant::now();
        let is_broken = self.route.evidence.is_broken(self.key, now);
        let until = if is_broken { self.deadline.min(after(now, BROKEN_WAITS)) } else { self.deadline };
        let mut patience = self.patience(is_broken);
        let mut slot = self.host.in_flight.free(self.share);
        loop {
            if let Some(_slot) = slot.take() {
                let quota = quota.map(|quota| quota.take(operation, self.started, now));
                if !matches!(quota, Some(None))
                    && let Some(permit) = self.route.outage.take(&patience, now)
                {
                    let sent = Sent { at: now, permit, is_broken };
                    return Ok(Some(Admitted { login, quota: quota.flatten(), _slot, sent }));
                }
            }
            // Boxed, so that only calls that wait have room for it.
            if !Box::pin(self.wait(quota, until, &mut patience, &mut slot)).await? {
                return Ok(None);
            }
            if login.as_ref().is_some_and(|pass| !pass.holds()) {
                // Others were refused meanwhile.
                slot = None;
                login = Box::pin(self.login_pass()).await?;
            }
            patience.deadline = self.deadline;
            now = Instant::now();
        }
    }

    /// Waits for what an attempt needs, one after the other. False where the token was replaced meanwhile.
    async fn wait(
        &mut self,
        quota: Option<&QuotaGate>,
        until: Instant,
        patience: &mut Patience,
        slot: &mut Option<Slot<'a>>,
    ) -> Result<bool, Error> {
        let (host, operation, meter) = (self.host, self.call.spec.operation.name, &*self.route.meter);
        if let Some(quota) = quota {
            let most_waiting = self.client.settings.max_waiting;
            let waited = quota.wait(operation, self.started, until, patience.oldest, most_waiting);
            let (waited, down) = (pin!(waited), pin!(self.route.outage.outlasts(*patience)));
            match self.waits.on(Wait::Quota, meter, pin!(select(waited, down))).await {
                Either::Left((Ok(true), _)) => {}
                Either::Left((Ok(false), _)) => return Ok(false),
                Either::Left((Err(refused), _)) => {
                    let hardly_waited = until < self.deadline;
                    let last = self.last.clone();
                    return Err(self.ended(refused.into_error(operation, most_waiting, hardly_waited, last)));
                }
                Either::Right((down, _)) => return Err(self.ended(self.down(down, self.last.clone()))),
            }
        }
        let up = self.waits.on(Wait::Outage, meter, pin!(self.route.outage.wait(patience))).await;
        up.map_err(|down| self.ended(self.down(down, self.last.clone())))?;
        let asked = Instant::now();
        let free = pin!(host.in_flight.slot(self.share, self.latest(), host.name()));
        let free = self.waits.on(Wait::InFlight, meter, free).await;
        let free = free.map_err(|(kind, what)| self.ended(Error::instead_of(self.last.clone(), kind, what)));
        *slot = Some(free?);
        self.not_its_own_time(asked);
        Ok(true)
    }

    /// The OAuth client's leave to log in.
    async fn login_pass(&mut self) -> Result<Option<LoginPass<'a>>, Error> {
        let Authority::Login { gate, .. } = &self.call.authority else { return Ok(None) };
        let asked = Instant::now();
        let pass = self.waits.on(Wait::Quota, &self.route.meter, pin!(gate.admit(self.latest()))).await;
        let pass = pass.map_err(|at| self.ended(login::refused(at, self.last.clone())))?;
        self.not_its_own_time(asked);
        Ok(Some(pass))
    }

    /// Until when it waits its turn.
    fn latest(&self) -> Instant {
        match self.is_login() {
            true => after(self.started, self.client.settings.login_throttle_timeout),
            false => self.deadline,
        }
    }

    /// What a login has waited for its turn since then is not its own time.
    fn not_its_own_time(&mut self, since: Instant) {
        if self.is_login() {
            self.deadline = after(self.deadline, since.elapsed());
        }
    }

    /// How the call deals with an outage of its route.
    fn patience(&self, is_broken: bool) -> Patience {
        let settings = &self.client.settings;
        let oldest = (!settings.retry.ride_out_outages).then_some(settings.attempt_timeout);
        let Self { started, deadline, key, .. } = *self;
        Patience { started, deadline, oldest, key, who: self.who(), is_broken, one_more: None }
    }

    fn down(&self, down: IsDown, last: Option<Error>) -> Error {
        down.into_error(self.host.name(), self.call.spec.operation.name, last)
    }

    /// Sends the request once and reads the whole answer.
    async fn attempt(&mut self, token: Option<&Token>, sent: Sent) -> Outcome {
        let (spec, host, settings) = (self.call.spec, self.host, &self.client.settings);
        self.began.get_or_insert(sent.at);
        if let Authority::Login { slot, .. } = &self.call.authority {
            slot.note_login_sent(true);
        }
        self.client.counters.attempt(self.is_login(), self.attempts == 0);
        if let Some(last) = &self.last {
            self.route.meter.retried(last.kind());
        }
        let resent = self.attempts;
        self.attempts = resent.saturating_add(1);
        let attempt_timeout = settings.attempt_timeout.max(if spec.patient { PATIENCE } else { Duration::ZERO });
        let limit = self.deadline.min(after(sent.at, attempt_timeout));
        let http = match spec.exact.is_some() || self.wants_new_connection() {
            true => host.transport.make(false).map(|http| (http, [None, None])),
            false => self.waits.on(Wait::InFlight, &self.route.meter, pin!(host.transport.http(sent.at, limit))).await,
        };
        let (http, _places) = http.map_err(Failure::not_built)?;
        let _in_flight = self.route.meter.in_flight();
        let span = spans::of_attempt(host, spec, resent);
        let leaves = self.leaves(sent).filter(|leaves| *leaves < limit);
        let reading = self.reading(sent.at, limit);
        let exchange = match leaves {
            None => Either::Left(self.exchange(&http, token, reading)),
            Some(_) => Either::Right(Box::pin(self.probe(&http, token, reading))),
        };
        let exchange = match span.is_disabled() {
            true => Either::Left(exchange),
            false => Either::Right(Box::pin(exchange.instrument(span.clone()))),
        };
        let limit = leaves.unwrap_or(limit);
        let outcome = timeout_at(limit, exchange).await;
        let outcome = outcome.unwrap_or_else(|_| {
            let whole = self.whole_time_until(limit);
            Err(Failure::timed_out(host.name(), whole, sent.at.elapsed(), false))
        });
        let outcome =
            outcome.map_err(|failure| failure.redacted(&self.call.authority.secrets(token.map(Token::secret))));
        match &outcome {
            Ok(_) => http.hears(),
            Err(failure) if failure.quiet && !spec.patient => host.transport.renew(&http, sent.at, failure.silent),
            Err(_) => {}
        }
        if !span.is_disabled() {
            spans::end_attempt(&span, &outcome, &self.call.authority.secrets(token.map(Token::secret)));
        }
        self.lost = self.lost.saturating_add(u32::from(verdict::is_lost(&outcome)));
        self.may_have_been_sent |= !outcome.as_ref().is_err_and(|failure| failure.never_sent);
        outcome
    }

    /// What must not be acted on twice goes over no connection that the other side may just be closing; nor does a refresh, once it
    /// was lost on one. Of HTTP/2 the end of a connection says what was acted on, so the logins of many share one.
    fn wants_new_connection(&self) -> bool {
        let says_what_it_acted_on = || self.is_login() && self.host.transport.speaks_http2();
        match self.call.spec.operation.repeat {
            Repeat::Always => false,
            Repeat::IfNeverSent => !says_what_it_acted_on(),
            Repeat::OnceIfLost => self.lost > 0 && !says_what_it_acted_on(),
        }
    }

    /// The request, built anew and handed over here, so that no future of ours keeps room for it.
    fn exchange<'s>(
        &'s self,
        http: &'s Http,
        token: Option<&Token>,
        reading: Reading,
    ) -> impl Future<Output = Outcome> + Send + use<'s, 'a> {
        let (host, request) = (self.host, self.request(token));
        match self.call.spec.exact {
            Some(to) => Either::Left(Box::pin(host.transport.exchange_exact(request, to, host.name(), reading))),
            None => Either::Right(http.exchange(request, host.name(), reading)),
        }
    }

    fn request(&self, token: Option<&Token>) -> reqwest::Request {
        let mut request = self.host.site.request(self.call.spec);
        if let Some(token) = token {
            request.headers_mut().insert(AUTHORIZATION, token.bearer().clone());
        }
        request
    }

    fn reading(&self, sent: Instant, until: Instant) -> Reading {
        let (most, whole) = (self.client.settings.max_body_bytes, self.whole_time_until(until));
        Reading { most, once: self.is_login(), sent, until, whole }
    }

    /// What the call has of time in all, where no more of it is left.
    fn whole_time_until(&self, limit: Instant) -> Option<&'static str> {
        let whole = if self.is_login() { "the login's time (`login_timeout`)" } else { "the call's time" };
        (self.deadline <= limit).then_some(whole)
    }

    /// Until when the call waits for the answer to its probe; none where more than an answer would be lost with it.
    fn leaves(&self, sent: Sent) -> Option<Instant> {
        let spec = self.call.spec;
        let only_reads = self.agent().is_some() && spec.operation.method == Method::GET && !spec.patient;
        match sent.permit {
            Permit::Probe if only_reads => self.route.outage.waits_for_probe(&self.patience(false), sent.at),
            _ => None,
        }
    }

    /// The same as a probe. When its call has left it, it goes on alone: a service that is slow is up all the same.
    async fn probe(&self, http: &Arc<Http>, token: Option<&Token>, reading: Reading) -> Outcome {
        let (http, route, host) = (Arc::clone(http), Arc::clone(self.route), self.host.name().to_owned());
        let request = self.request(token);
        let (tell, told) = oneshot::channel();
        let probe = async move {
            let outcome = timeout_at(reading.until, http.exchange(request, &host, reading)).await;
            if let Ok(outcome) = outcome
                && let Err(Ok(answer)) = tell.send(outcome)
                && verdict::is_up(answer.status)
            {
                route.outage.answered(reading.sent);
            }
        };
        tokio::spawn(probe.in_current_span());
        match told.await {
            Ok(outcome) => outcome,
            // Not answered in its time, which the call does not wait for.
            Err(_) => pending().await,
        }
    }

    /// What the outcome means, and what it tells each gate: settled at once, before anything waits.
    fn settle(
        &self,
        token: Option<&Arc<Token>>,
        admitted: Admitted<'_, '_>,
        outcome: Outcome,
        now: Instant,
    ) -> Verdict {
        let Admitted { login, quota, _slot, sent } = admitted;
        let headers = outcome.as_ref().ok().and_then(|answer| QuotaHeaders::parse(&answer.headers));
        let is_answered = outcome.is_ok();
        self.route.meter.requested(now.saturating_duration_since(sent.at), spans::status_of(&outcome), headers);
        let (verdict, signal) = self.judge(token.map(AsRef::as_ref), outcome);
        if let (Some(slot), Some(token)) = (self.agent(), token)
            && let Verdict::ReplaceToken(error) | Verdict::Fail(error) = &verdict
            && error.kind() == ErrorKind::Unauthorized
        {
            // Before the quota wakes another to try this token.
            slot.reject(token, self.call.spec.operation.name, error);
        }
        // A 5xx without a word on the quota is no answer about it: a gateway's, perhaps.
        if let (true, Some(quota)) = (is_answered && (headers.is_some() || !matches!(signal, Signal::Failed(_))), quota)
        {
            let refusal = match &verdict {
                Verdict::Throttled(error) => Some(TooManyRequests::of(error)),
                _ => None,
            };
            quota.answered(now, headers, refusal, &self.client.settings.retry);
        }
        if let Authority::Login { slot, .. } = &self.call.authority {
            slot.note_login_sent(self.lost > 0 || matches!(verdict, Verdict::Done(_)));
        }
        if let Some(login) = login {
            settle_login(login, &verdict, self.client.settings.retry.retry_after_cap);
        }
        let verdict = match self.client.resilience.get().is_on() {
            true => self.learn(verdict, signal, sent, now),
            false => verdict,
        };
        if let Verdict::Retry(_, error) | Verdict::Fail(error) = &verdict {
            self.client.counters.bad_request(error);
            self.route.meter.bad_request(error);
        }
        verdict
    }

    /// What the outcome tells of the route and of the key, and what that makes of the verdict.
    fn learn(&self, verdict: Verdict, signal: Signal, sent: Sent, now: Instant) -> Verdict {
        let verdict = self.weigh(verdict, sent, now);
        let over = match signal {
            Signal::Answered => {
                self.route.outage.answered(sent.at);
                None
            }
            Signal::Failed(failed) if !sent.is_broken => {
                let counts = if self.attempts == 1 { self.route.evidence.counts(self.key) } else { Counts::No };
                self.route.outage.failed(sent.permit, sent.at, counts, &self.patience(false), failed, now)
            }
            Signal::Failed(_) | Signal::Nothing => None,
        };
        match (over, verdict) {
            (Some(down), Verdict::Retry(_, error)) => Verdict::Fail(self.down(down, Some(error))),
            (_, verdict) => verdict,
        }
    }

    fn judge(&self, token: Option<&Token>, outcome: Outcome) -> (Verdict, Signal) {
        let outcome = match outcome {
            Ok(answer) if answer.status.is_success() => return (Verdict::Done(answer), Signal::Answered),
            outcome => outcome,
        };
        let asked = Asked {
            spec: self.call.spec,
            secrets: &self.call.authority.secrets(token.map(Token::secret)),
            lost: self.lost,
            failures: self.failures,
            can_replace_token: self.agent().is_some()
                && (!self.token_replaced || token.is_some_and(Token::is_taken_over)),
            retry_after_cap: self.client.settings.retry.retry_after_cap,
            now: self.client.now(),
        };
        verdict::of(&asked, outcome)
    }

    /// Holds a failure against how others of its route fare: what is broken itself is not tried again.
    fn weigh(&self, verdict: Verdict, sent: Sent, now: Instant) -> Verdict {
        let evidence = &self.route.evidence;
        let (floor, error) = match verdict {
            // Nothing is broken about a conflict.
            Verdict::Retry(floor, error) if error.kind() != ErrorKind::Conflict => (floor, error),
            Verdict::Done(answer) if answer.status.is_success() => {
                evidence.served(self.key, self.who(), sent.at, self.failures, self.refusals);
                return Verdict::Done(answer);
            }
            verdict => return verdict,
        };
        let (began, failures) = (self.began.unwrap_or(sent.at), self.failures.saturating_add(1));
        let finding = evidence.failed(self.key, self.who(), began, failures, now);
        let error = match finding.cause() {
            Some(found) => error.found(found),
            None => error,
        };
        match finding.broken || sent.is_broken {
            true => Verdict::Fail(error.gave_up(GaveUp::Broken)),
            false => Verdict::Retry(floor, error),
        }
    }

    fn done(&self, mut answer: Box<Answer>, token: Option<&Token>, now: Instant) -> Box<Answer> {
        answer.bearer = token.map(|token| token.bearer().clone());
        answer.attempts = self.attempts;
        answer.elapsed = now.saturating_duration_since(self.started);
        answer
    }

    /// It is waited for at its gate: that of the token or of the call itself, of a login that of its OAuth client.
    fn after_limit(&mut self, error: Error) -> Result<(), Error> {
        self.client.counters.throttled(self.is_login());
        self.route.meter.throttled(error.limit_key());
        if error.retry_after().is_some_and(|wait| wait > self.client.settings.retry.retry_after_cap) {
            return Err(self.ended(error));
        }
        self.keep(error);
        Ok(())
    }

    /// Notes what it met last.
    fn keep(&mut self, error: Error) {
        if let Authority::Login { slot, .. } = &self.call.authority {
            // For those whose time runs out while this login goes on.
            slot.note_login_trouble(Some(error.clone()));
        }
        self.last = Some(error);
    }

    /// When a further attempt is due, if there may be one.
    fn after_failure(&mut self, floor: Option<Duration>, error: Error) -> Result<Instant, Error> {
        if error.is_timeout() && Instant::now() >= self.deadline {
            // An attempt that had only what was left says less than the one before.
            let error = match self.last.take() {
                Some(last) => last.outlasted(error.what()),
                None => error,
            };
            return Err(self.ended(error));
        }
        let earlier = self.failures;
        self.failures = earlier.saturating_add(1);
        self.refusals = self.refusals.saturating_add(u32::from(error.kind() == ErrorKind::BadRequest));
        if self.failures >= self.client.settings.retry.attempts {
            return Err(self.ended(error.gave_up(GaveUp::AttemptsSpent)));
        }
        self.keep(error.clone());
        self.pause(floor.unwrap_or_default(), earlier, error)
    }

    /// So long at least, and the backoff after so many earlier ones, from now.
    fn pause(&self, at_least: Duration, earlier: u32, error: Error) -> Result<Instant, Error> {
        let backoff = self.client.random.below(self.client.settings.retry.backoff_bound(earlier));
        let wait = at_least.saturating_add(backoff);
        match Instant::now().checked_add(wait).filter(|at| *at < self.deadline) {
            Some(at) => {
                tracing::debug!(wait_s = wait.as_secs_f64(), cause = %error, "trying again");
                Ok(at)
            }
            None => {
                // A backoff is chance, and no word on when it will be well.
                let error = if at_least.is_zero() { error } else { error.with_retry_after(Some(wait)) };
                Err(self.ended(error.gave_up(GaveUp::DeadlineWouldPass)))
            }
        }
    }

    /// The error the user gets: what happened last, and what it cost.
    fn ended(&self, error: Error) -> Error {
        let spec = self.call.spec;
        let error = error.maybe_sent(self.may_have_been_sent).lost_answers(self.lost);
        error.ended(spec.operation.name, spec.named().as_deref(), self.attempts, self.started.elapsed())
    }
}

fn settle_login(pass: LoginPass<'_>, verdict: &Verdict, cap: Duration) {
    match verdict {
        Verdict::Done(_) => pass.accepted(),
        Verdict::Throttled(error) => pass.throttled(error.retry_after().map(|wait| wait.min(cap))),
        // Refused for its own reasons, so no limit was in the way. Whether it counts against one is not documented.
        Verdict::Fail(error) if error.status().is_some_and(|status| status < 500) => pass.accepted(),
        _ => drop(pass),
    }
}
