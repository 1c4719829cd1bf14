//! A call's way, from the request to the answer: the one loop every call runs through, logins too.
//!
//! 1. the token: held, or from a login shared by all who wait (`auth/token.rs`);
//! 2. admission: the operation's quota, its route's outage, then a place among the attempts in flight to the host;
//! 3. the attempt: the request, built anew, with the bearer; the whole answer, bounded, in the attempt's time;
//! 4. the verdict (`verdict.rs`): done, replace the token, wait for a limit, try again after a backoff, or fail;
//! 5. what the outcome tells is settled with every gate at once, before anything waits.
//!
//! Nothing is held while it sleeps, and it never begins a sleep that would outlast the deadline.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use http::Method;
use http::header::AUTHORIZATION;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::Instrument;

use crate::answer::Answer;
use crate::auth::token::{Token, TokenSlot};
use crate::client::{ClientShared, Host};
use crate::error::cause::{Endpoint, RequestFacts};
use crate::error::{Error, ErrorKind, GaveUp};
use crate::failure::Failure;
use crate::id::is_uuid;
use crate::limits::Route;
use crate::limits::in_flight::{NoPlace, Place, Share};
use crate::limits::login::{LoginGate, LoginPass};
use crate::limits::outage::{Attempt, Counts, IsDown, Leave, Patience};
use crate::limits::quota::{QuotaRefusal, QuotaRefused, Throttled, Ticket, Turn};
use crate::limits::window::QuotaHeaders;
use crate::request::{OnHost, PATIENCE, Repeat, Spec};
use crate::retry::after;
use crate::transport::exchange;
use crate::verdict::{self, Asked, Signal, Verdict};

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
    /// This very token of an agent's: a logout, which no other token can stand in for.
    Token(Arc<Token>),
    /// A login: the request carries its own credentials; the OAuth client's gate admits it.
    Login { gate: &'a LoginGate, slot: &'a TokenSlot, secrets: Vec<&'a str> },
    /// Nobody's: the URL is its own permission, and never sees a token.
    SignedUrl { secrets: Vec<&'a str> },
}

/// Runs a call to its end.
pub(crate) async fn run(client: &ClientShared, call: &Call<'_>) -> Result<Answer, Error> {
    let operation = call.spec.operation;
    let span = tracing::info_span!(
        "genesys_scripts.call",
        otel.name = operation.name,
        http.request.method = %operation.method,
        url.template = operation.route,
        server.address = client.host(call.spec).name(),
        http.response.status_code = tracing::field::Empty,
        http.request.resend_count = tracing::field::Empty,
        error.type = tracing::field::Empty,
    );
    match span.is_disabled() {
        true => complete(client, call, span).await,
        // Boxed, so that only those who listen carry it.
        false => Box::pin(complete(client, call, span.clone()).instrument(span)).await,
    }
}

async fn complete(client: &ClientShared, call: &Call<'_>, span: tracing::Span) -> Result<Answer, Error> {
    let mut run = Run::new(client, call, span);
    let counters = (!run.is_login()).then_some(&client.counters);
    if let Some(counters) = counters {
        counters.calls.add();
    }
    let result = run.attempts().await;
    match (counters, &result) {
        (Some(counters), Ok(_)) => counters.succeeded.add(),
        (Some(counters), Err(error)) => counters.failed(error),
        (None, _) => {}
    }
    run.report(&result);
    result
}

/// One call under way.
struct Run<'a> {
    client: &'a ClientShared,
    call: &'a Call<'a>,
    host: &'a Host,
    route: Arc<Route>,
    /// Other routes of the host are in use too.
    shares: bool,
    /// What it is about, as far as it can be broken itself.
    key: u64,
    /// Its own span, and no caller's, is what is recorded on.
    span: tracing::Span,
    started: Instant,
    deadline: Instant,
    /// When the first attempt was sent.
    began: Option<Instant>,
    /// Requests sent, or tried to be.
    attempts: u32,
    /// Attempts that ended in a failure (not in throttling or a replaced token): what the policy bounds.
    failures: u32,
    /// 429s that this call waited out by itself.
    throttled: u32,
    token_replaced: bool,
    /// How often the agent had logged out when the call began.
    logouts: u64,
    /// What the last attempt met.
    last: Option<Error>,
    /// Attempts the service may have acted on without its answer reaching us.
    lost: u32,
    may_have_been_sent: bool,
}

/// All that lets one attempt go; given back together.
struct Admitted<'a, 'r> {
    place: Place<'r>,
    leave: Leave,
    login: Option<LoginPass<'a>>,
    /// The key is known to be broken: this attempt is the only one, and counts for nothing else.
    only_one: bool,
    sent: Instant,
}

impl<'a> Run<'a> {
    /// The loop, and nothing else.
    async fn attempts(&mut self) -> Result<Answer, Error> {
        let route = Arc::clone(&self.route);
        loop {
            let token = self.token().await?;
            let Some((admitted, ticket)) = self.admit(&route, token.as_deref()).await? else {
                continue; // What it was let in with is no longer good.
            };
            let outcome = self.attempt(token.as_deref(), admitted.sent).await;
            let verdict = self.settle(token.as_ref(), admitted, ticket, outcome);
            match verdict {
                Verdict::Done(answer) => return Ok(self.done(answer, token.as_deref())),
                Verdict::ReplaceToken(error) => {
                    self.token_replaced = true;
                    self.last = Some(error);
                }
                Verdict::Throttled(throttled, error) => self.wait_for_limit(throttled.wait, error).await?,
                Verdict::Retry(floor, error) => self.back_off(floor, error).await?,
                Verdict::Fail(error) => return Err(self.ended(error)),
            }
        }
    }

    fn new(client: &'a ClientShared, call: &'a Call<'a>, span: tracing::Span) -> Self {
        let started = Instant::now();
        let host = client.host(call.spec);
        let (route, shares) = host.route(call.spec.operation.name);
        Self {
            client,
            call,
            host,
            route,
            shares,
            key: key(call.spec),
            span,
            started,
            deadline: after(started, call.timeout),
            began: None,
            attempts: 0,
            failures: 0,
            throttled: 0,
            token_replaced: false,
            logouts: match &call.authority {
                Authority::Agent(slot) => slot.logouts(),
                _ => 0,
            },
            last: None,
            lost: 0,
            may_have_been_sent: false,
        }
    }

    fn is_login(&self) -> bool {
        matches!(self.call.authority, Authority::Login { .. })
    }

    /// It goes out with whatever token its agent has, and counts against that one's quota.
    fn slot(&self) -> Option<&'a Arc<TokenSlot>> {
        match &self.call.authority {
            Authority::Agent(slot) => Some(slot),
            _ => None,
        }
    }

    /// Whose call it is, to tell what follows a token from what follows a script.
    fn who(&self) -> usize {
        self.slot().map_or(0, |slot| Arc::as_ptr(slot).addr())
    }

    /// The agent's token. A login that failed ends the call: its own loop is over.
    async fn token(&self) -> Result<Option<Arc<Token>>, Error> {
        let slot = match &self.call.authority {
            Authority::Agent(slot) => slot,
            Authority::Token(token) => return Ok(Some(Arc::clone(token))),
            Authority::Login { .. } | Authority::SignedUrl { .. } => return Ok(None),
        };
        match slot.token(self.call.spec.operation.name, self.logouts, self.deadline).await {
            Ok(token) => Ok(Some(token)),
            // No login failed: nothing can replace the token. What the service said of it tells more.
            Err(error) if error.kind() == ErrorKind::Unauthorized => {
                let refused = self.last.clone().filter(|last| last.kind() == ErrorKind::Unauthorized);
                Err(self.ended(refused.unwrap_or(error)))
            }
            Err(error) => {
                let spec = self.call.spec;
                Err(error.of_login(spec.operation.name, spec.subject, self.attempts, self.started.elapsed()))
            }
        }
    }

    /// Waits for the quota, the outage and a place in flight, then takes the quota without waiting: should it be gone by then,
    /// the place goes back to others meanwhile. None where the token or the leave to log in is no longer good.
    async fn admit<'r, 't>(
        &mut self,
        route: &'r Route,
        token: Option<&'t Token>,
    ) -> Result<Option<(Admitted<'a, 'r>, Option<Ticket<'t>>)>, Error>
    where
        'a: 'r,
    {
        let login = self.login_pass().await?;
        let operation = self.call.spec.operation.name;
        let quota = token.filter(|_| self.slot().is_some()).map(Token::quota);
        let mut turn = quota.map(|quota| quota.turn(operation, self.started, self.host.in_flight.most_waiting()));
        let share = self.shares.then_some(&route.share);
        let only_one = route.evidence.is_broken(self.key, Instant::now());
        loop {
            if let Some(turn) = &mut turn {
                match turn.wait(self.deadline).await {
                    Ok(()) => {}
                    Err(refused) if refused.why == QuotaRefusal::Retired => return Ok(None),
                    Err(refused) => return Err(self.no_quota(refused)),
                }
            }
            if let (Some(turn), true) = (&mut turn, route.outage.next_probe().is_some()) {
                turn.put_back();
            }
            let leave = self.route_is_up(only_one).await?;
            let place = match self.host.in_flight.free(share) {
                Some(place) => place,
                None => {
                    turn.iter_mut().for_each(Turn::put_back);
                    self.place(share).await?
                }
            };
            if login.as_ref().is_some_and(|pass| !pass.holds()) {
                return Ok(None); // Others were refused meanwhile.
            }
            if leave == Leave::Freely && route.outage.next_probe().is_some() {
                continue; // It went down meanwhile.
            }
            let sent = Instant::now();
            let ticket = match &mut turn {
                Some(turn) => match turn.take(sent) {
                    Some(ticket) => Some(ticket),
                    None => continue,
                },
                None => None,
            };
            return Ok(Some((Admitted { place, leave, login, only_one, sent }, ticket)));
        }
    }

    /// The OAuth client's leave to log in. Its wait is not the login's own time.
    async fn login_pass(&mut self) -> Result<Option<LoginPass<'a>>, Error> {
        let Authority::Login { gate, .. } = &self.call.authority else { return Ok(None) };
        let asked = Instant::now();
        let latest = after(self.started, self.client.settings.login_throttle_timeout);
        let pass = gate.admit(latest).await.map_err(|refused| {
            let wait = refused.possible_at.map(|at| at.saturating_duration_since(Instant::now()));
            let throttled = self
                .last
                .clone()
                .filter(Error::is_throttled)
                .unwrap_or_else(|| Error::login_throttled("logins of this OAuth client are throttled"));
            self.ended(throttled.with_retry_after(wait))
        })?;
        self.deadline = after(self.deadline, asked.elapsed());
        Ok(Some(pass))
    }

    fn no_quota(&self, refused: QuotaRefused) -> Error {
        let wait = refused.available_at.map(|at| at.saturating_duration_since(Instant::now()));
        let operation = self.call.spec.operation.name;
        let error = match (self.last.clone().filter(Error::is_throttled), refused.why, &refused.limit) {
            (Some(answered), _, _) => answered.gave_up(GaveUp::DeadlineWouldPass),
            (None, QuotaRefusal::QueueFull, _) => {
                let most = self.host.in_flight.most_waiting();
                let what = format!("{most} calls of this agent wait for the quota of `{operation}` already");
                Error::new(ErrorKind::Throttled, what)
            }
            (None, _, Some(limit)) => {
                let what = format!("the service's limit {limit} for `{operation}` is reached until after the deadline");
                Error::new(ErrorKind::Throttled, what)
            }
            (None, _, None) => {
                let what =
                    format!("what this agent's token may ask of `{operation}` is spent until after the deadline");
                Error::new(ErrorKind::Throttled, what)
            }
        };
        self.ended(error.with_retry_after(wait))
    }

    /// Waits while the route is down; not for long where it has been for long.
    async fn route_is_up(&self, only_one: bool) -> Result<Leave, Error> {
        // What is broken itself finds out nothing, and so is no probe.
        let up = match self.route.outage.down().filter(|_| only_one) {
            Some(down) => Err(down),
            None => self.route.outage.admit(self.patience()).await,
        };
        up.map_err(|down| self.ended(self.is_down(down, self.last.clone())))
    }

    fn patience(&self) -> Patience {
        let settings = &self.client.settings;
        let young = (!settings.retry.ride_out_outages).then_some(settings.attempt_timeout);
        Patience { deadline: self.deadline, young }
    }

    fn is_down(&self, down: IsDown, last: Option<Error>) -> Error {
        let IsDown { next_probe, last: met } = down;
        let (host, operation) = (self.host.name(), self.call.spec.operation.name);
        let what = format!("{host} fails every `{operation}` for now (last, {met}); it is asked again then");
        let wait = next_probe.saturating_duration_since(Instant::now());
        Error::unavailable(last, what).with_retry_after(Some(wait))
    }

    /// A place among the attempts in flight to the host. Of a login, its wait is not the login's own time.
    async fn place<'r>(&mut self, share: Option<&'r Share>) -> Result<Place<'r>, Error>
    where
        'a: 'r,
    {
        let (host, asked) = (self.host, Instant::now());
        let latest = match self.is_login() {
            true => after(self.started, self.client.settings.login_throttle_timeout),
            false => self.deadline,
        };
        let bound = host.in_flight.bound();
        let place = host.in_flight.place(share, latest).await.map_err(|none| {
            self.ended(match none {
                NoPlace::QueueFull => {
                    let most = host.in_flight.most_waiting();
                    let what = format!(
                        "{most} calls of this client wait for {} already (`max_waiting`), and {bound} are in flight",
                        host.name()
                    );
                    Error::unavailable(self.last.clone(), what)
                }
                NoPlace::Deadline => {
                    let what = format!(
                        "the call's time ran out while {bound} others of this client were in flight to {} \
                         (`max_in_flight`)",
                        host.name()
                    );
                    Error::unanswered(self.last.clone(), what)
                }
            })
        })?;
        if self.is_login() {
            self.deadline = after(self.deadline, asked.elapsed());
        }
        Ok(place)
    }

    /// Sends the request once and reads the whole answer.
    async fn attempt(&mut self, token: Option<&Token>, sent: Instant) -> Result<Answer, Failure> {
        let (spec, host) = (self.call.spec, self.host);
        let mut request = host.site.request(spec);
        if let Some(token) = token {
            request.headers_mut().insert(AUTHORIZATION, token.bearer().clone());
        }
        self.began.get_or_insert(sent);
        self.attempts = self.attempts.saturating_add(1);
        self.count_attempt();
        let settings = &self.client.settings;
        let attempt_timeout = settings.attempt_timeout.max(if spec.patient { PATIENCE } else { Duration::ZERO });
        let limit = self.deadline.min(after(sent, attempt_timeout));
        let span = tracing::debug_span!("genesys_scripts.attempt", http.request.resend_count = self.attempts - 1);
        // A change that must not be made twice goes over no connection that the other side may just be closing.
        let http = match spec.operation.repeat {
            Repeat::IfNeverSent if !self.is_login() => host.transport.make(),
            _ => host.transport.http(),
        };
        let http = http.map_err(Failure::not_built)?;
        let proxy = http.proxy(request.url());
        let (most, once) = (settings.max_body_bytes, self.is_login());
        let exchange = exchange(http.send(request), host.name(), proxy, most, once);
        let exchange = match span.is_disabled() {
            true => Either::Left(exchange),
            false => Either::Right(Box::pin(exchange.instrument(span))),
        };
        let outcome = timeout_at(limit, exchange).await;
        let outcome = outcome.unwrap_or_else(|_| {
            let whole_call = self.deadline <= limit;
            Err(Failure::timed_out(host.name(), whole_call, sent.elapsed()))
        });
        if outcome.as_ref().is_err_and(|failure| failure.silent && !spec.patient) {
            host.transport.renew(&http);
        }
        self.lost = self.lost.saturating_add(u32::from(verdict::is_lost(&outcome)));
        self.may_have_been_sent |= !outcome.as_ref().is_err_and(|failure| failure.never_sent);
        outcome
    }

    /// What the outcome means, and what it tells each gate: settled at once, before anything waits.
    fn settle(
        &self,
        token: Option<&Arc<Token>>,
        admitted: Admitted<'_, '_>,
        ticket: Option<Ticket<'_>>,
        outcome: Result<Answer, Failure>,
    ) -> Verdict {
        let (now, settings) = (Instant::now(), &self.client.settings);
        let cap = settings.retry.retry_after_cap;
        let signal = verdict::signal(&outcome, self.call.spec.patient, self.client.now(), cap);
        let quota = outcome.as_ref().ok().map(|answer| QuotaHeaders::parse(&answer.headers));
        let verdict = self.judge(token.map(AsRef::as_ref), outcome);
        let throttled = match &verdict {
            Verdict::Throttled(throttled, _) => Some(throttled.clone()),
            _ => None,
        };
        if let (Verdict::ReplaceToken(error) | Verdict::Fail(error), Some(slot), Some(token)) =
            (&verdict, self.slot(), token)
            && error.kind() == ErrorKind::Unauthorized
        {
            // Before the ticket wakes another to try this token.
            slot.reject(token, self.call.spec.operation.name, error);
        }
        // A 5xx without a word on the quota is no answer about it: a gateway's, perhaps.
        let quota = quota.filter(|told| told.allowed.is_some() || !matches!(signal, Signal::Failed(_)));
        if let (Some(ticket), Some(quota)) = (ticket, quota) {
            ticket.answered(now, &quota, throttled, &settings.retry);
        }
        let Admitted { place, leave, login, only_one, sent } = admitted;
        if let Some(login) = login {
            settle_login(login, &verdict, cap);
        }
        let verdict = self.weigh(verdict, &signal, only_one, sent, now);
        let counts = match self.attempts {
            1 if self.route.evidence.was_served(self.key) => Counts::Yes,
            1 => Counts::Once(self.key),
            _ => Counts::No,
        };
        let attempt = Attempt { leave, sent, counts };
        let over = match signal {
            Signal::Served | Signal::Answered => {
                self.route.outage.answered(sent);
                None
            }
            Signal::Failed(failed) if !only_one => self.route.outage.failed(attempt, self.patience(), failed),
            Signal::Failed(_) | Signal::Nothing => None,
        };
        drop(place);
        match (over, verdict) {
            (Some(down), Verdict::Retry(_, error)) => Verdict::Fail(self.is_down(down, Some(error))),
            (_, verdict) => verdict,
        }
    }

    fn judge(&self, token: Option<&Token>, outcome: Result<Answer, Failure>) -> Verdict {
        let outcome = match outcome {
            Ok(answer) if answer.status.is_success() => return Verdict::Done(answer),
            outcome => outcome,
        };
        let (endpoint, secrets) = match &self.call.authority {
            Authority::Login { secrets, .. } => (Endpoint::Login, secrets.clone()),
            Authority::SignedUrl { secrets } => (Endpoint::SignedUrl, secrets.clone()),
            _ => (Endpoint::Api, token.map(Token::secret).into_iter().collect()),
        };
        let spec = self.call.spec;
        let parameters: Vec<&str> = spec.query.iter().map(|(name, _)| *name).collect();
        let asked = Asked {
            endpoint,
            facts: RequestFacts {
                of_script: spec.operation.is_of_script(),
                had_body: spec.body.is_some(),
                odd_id: spec.subject.filter(|id| !spec.parameters.is_empty() && !is_uuid(id)),
                parameters: &parameters,
            },
            secrets: &secrets,
            // It refuses, so nothing was done. But of an upload that something on the way sent twice, it is the second's
            // answer, and a third would make another script.
            settles: spec.operation.host == OnHost::Api && spec.operation.method != Method::GET,
            failures: self.failures,
            repeat: spec.operation.repeat,
            lost: self.lost,
            can_replace_token: self.slot().is_some() && !self.token_replaced,
            retry_after_cap: self.client.settings.retry.retry_after_cap,
            now: self.client.now(),
        };
        verdict::of(&asked, outcome)
    }

    /// Holds a failure against how others of its route fare: what is broken itself is not tried again.
    fn weigh(&self, verdict: Verdict, signal: &Signal, only_one: bool, sent: Instant, now: Instant) -> Verdict {
        let evidence = &self.route.evidence;
        match verdict {
            // Nothing is broken about it.
            Verdict::Retry(floor, error) if error.kind() == ErrorKind::Conflict => Verdict::Retry(floor, error),
            Verdict::Retry(floor, error) => {
                let finding = evidence.failed(
                    self.key,
                    self.who(),
                    self.began.unwrap_or(sent),
                    self.failures.saturating_add(1),
                    now,
                );
                let error = match finding.cause() {
                    Some(found) => error.found(found),
                    None => error,
                };
                self.count_bad_request(&error);
                match finding.broken || only_one {
                    true => Verdict::Fail(error.gave_up(GaveUp::Broken)),
                    false => Verdict::Retry(floor, error),
                }
            }
            Verdict::Fail(error) => {
                self.count_bad_request(&error);
                Verdict::Fail(error)
            }
            other => {
                if let Signal::Served = signal {
                    evidence.served(self.key, self.who(), sent, self.failures);
                }
                other
            }
        }
    }

    fn done(&self, mut answer: Answer, token: Option<&Token>) -> Answer {
        answer.bearer = token.map(|token| token.bearer().clone());
        answer.attempts = self.attempts;
        answer.elapsed = self.started.elapsed();
        answer
    }

    /// Waits as long as a limit asks: a login at the gate of its OAuth client, a call of an agent at the gate of its token;
    /// any other here.
    async fn wait_for_limit(&mut self, wait: Option<Duration>, error: Error) -> Result<(), Error> {
        let counters = &self.client.counters;
        match self.is_login() {
            true => counters.login_throttled.add(),
            false => counters.throttled.add(),
        }
        if wait.is_some_and(|wait| wait > self.client.settings.retry.retry_after_cap) {
            return Err(self.ended(error));
        }
        self.last = Some(error.clone());
        if self.is_login() || self.slot().is_some() {
            return Ok(());
        }
        self.throttled = self.throttled.saturating_add(1);
        let wait = wait.unwrap_or_default().saturating_add(self.backoff());
        self.sleep(wait, error).await
    }

    /// Waits a backoff before a further attempt, if there may be one.
    async fn back_off(&mut self, floor: Option<Duration>, error: Error) -> Result<(), Error> {
        let wait = self.backoff().saturating_add(floor.unwrap_or_default());
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.client.settings.retry.attempts {
            return Err(self.ended(error.gave_up(GaveUp::AttemptsSpent)));
        }
        if let Authority::Login { slot, .. } = &self.call.authority {
            // For those whose time runs out while this login goes on.
            slot.note_login_trouble(&error);
        }
        self.last = Some(error.clone());
        self.sleep(wait, error).await
    }

    fn backoff(&self) -> Duration {
        self.client.random.below(self.client.settings.retry.backoff_bound(self.failures.saturating_add(self.throttled)))
    }

    async fn sleep(&self, wait: Duration, error: Error) -> Result<(), Error> {
        match Instant::now().checked_add(wait).filter(|at| *at < self.deadline) {
            Some(at) => {
                tracing::debug!(wait_ms = wait.as_millis(), cause = %error, "trying again");
                sleep_until(at).await;
                Ok(())
            }
            None => Err(self.ended(error.with_retry_after(Some(wait)).gave_up(GaveUp::DeadlineWouldPass))),
        }
    }

    /// The error the user gets: what happened last, and what it cost.
    fn ended(&self, error: Error) -> Error {
        let spec = self.call.spec;
        let error = error.maybe_sent(self.may_have_been_sent).lost_answers(self.lost);
        error.ended(spec.operation.name, spec.subject, self.attempts, self.started.elapsed())
    }

    fn count_bad_request(&self, error: &Error) {
        if let Some(bad_request) = error.bad_request() {
            self.client.counters.bad_request(bad_request.cause.name());
        }
    }

    fn count_attempt(&self) {
        let counters = &self.client.counters;
        if let Authority::Login { slot, .. } = &self.call.authority {
            slot.note_login_attempt();
            counters.login_attempts.add();
            return;
        }
        counters.attempts.add();
        if self.attempts > 1 {
            counters.retries.add();
        }
    }

    fn report(&self, result: &Result<Answer, Error>) {
        let span = &self.span;
        if span.is_disabled() {
            return;
        }
        span.record("http.request.resend_count", self.attempts.saturating_sub(1));
        let status = result.as_ref().map_or_else(Error::status, |answer| Some(answer.status.as_u16()));
        if let Some(status) = status {
            span.record("http.response.status_code", status);
        }
        if let Err(error) = result {
            span.record("error.type", tracing::field::debug(error.kind()));
        }
    }
}

/// What a call is about, as far as it can be broken itself: the ids, and the data version. FNV-1a: it is made for every call, of
/// ids that the user chose.
fn key(spec: &Spec<'_>) -> u64 {
    let parts = spec.parameters.iter().copied().chain(spec.subject).chain(spec.data_version());
    parts
        // No byte of UTF-8 is 0xFF.
        .flat_map(|part| part.bytes().chain([0xFF]))
        .fold(0xcbf2_9ce4_8422_2325, |key, byte| (key ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn settle_login(pass: LoginPass<'_>, verdict: &Verdict, cap: Duration) {
    match verdict {
        Verdict::Done(_) => pass.accepted(),
        Verdict::Throttled(Throttled { wait, .. }, _) => pass.throttled(wait.map(|wait| wait.min(cap))),
        // Refused for its own reasons, so no limit was in the way. Whether it counts against one is not documented [U].
        Verdict::Fail(error) if error.status().is_some_and(|status| status < 500) => pass.accepted(),
        _ => drop(pass),
    }
}
