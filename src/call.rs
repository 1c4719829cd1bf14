//! A call's way, from the request to the answer: the one loop every call runs through, logins too.
//!
//! 1. the token: held, or from a login shared by all who wait (`auth/token.rs`);
//! 2. admission: the quota of the token, then a place among the attempts in flight to the host, as many as it bears;
//! 3. the attempt: the request, built anew, with the bearer; the whole answer, bounded, in the attempt's time;
//! 4. the verdict: done, replace the token, wait for the quota, try again after a backoff, or fail; of an
//!    "Invalid script definition", which means load or a broken script, the script's history finds out which.
//!
//! Nothing is held while it sleeps, and it never begins a sleep that would outlast the deadline.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use reqwest::Request;
use reqwest_retry::{Retryable, default_on_request_success};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::Instrument;

use crate::auth::token::{Token, TokenSlot};
use crate::client::{ClientShared, Host};
use crate::error::bad_request::{self, Endpoint, Found, RequestFacts};
use crate::error::{Error, ErrorKind, GaveUp, failure, refusal};
use crate::limits::login::{LoginGate, LoginPass};
use crate::request::{Operation, Repeat};
use crate::resilience::history::{Probe, Verdict as Finding};
use crate::resilience::overload::{Held, Permit, Refused, Turn};
use crate::resilience::quota::{QuotaGate, QuotaHeaders, QuotaRefusal, QuotaRefused, Ticket};
use crate::resilience::retry::Backoffs;
use crate::resilience::retry_after::{self, Wait};

/// What the user asked for.
pub(crate) struct Call<'a> {
    pub(crate) operation: &'static Operation,
    /// What it is about, like the script's id: for errors.
    pub(crate) subject: Option<&'a str>,
    pub(crate) host: &'a Host,
    pub(crate) authority: Authority<'a>,
    pub(crate) timeout: Duration,
    /// What an attempt may take where the client's attempt timeout can be too short for it.
    pub(crate) attempt_timeout: Option<Duration>,
    /// Builds the request; called once for each attempt.
    pub(crate) request: &'a (dyn Fn() -> Result<Request, Error> + Send + Sync),
}

impl<'a> Call<'a> {
    fn is_login(&self) -> bool {
        matches!(self.authority, Authority::Login { .. })
    }

    /// It goes out with whatever token its agent has, and counts against that one's quota.
    fn takes_any_token(&self) -> bool {
        matches!(self.authority, Authority::Agent(_))
    }

    /// The script it is about.
    fn script(&self) -> Option<&'a str> {
        self.subject.filter(|_| self.operation.is_of_script())
    }
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

/// An answer of any status, whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether its status is one that another attempt can change.
    transient: bool,
    /// The token it was the answer to, which it must not be let echo.
    pub(crate) token: Option<Arc<Token>>,
    /// What the call took; told once it has ended.
    pub(crate) attempts: u32,
    pub(crate) elapsed: Duration,
}

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

/// What an attempt's outcome means for the call.
enum Verdict<'a> {
    Done(Answer),
    /// The token was refused; with another one the call may be allowed.
    ReplaceToken(Error),
    /// A quota or login limit: wait at least this long, or as long as a backoff where nothing is said.
    Throttled(Option<Duration>, Error),
    /// Another attempt may fare better, not before this long.
    Retry(Option<Duration>, Error),
    /// "Invalid script definition" of this script: load or a broken script, to be found out.
    InvalidDefinition(&'a str, Error),
    Fail(Error),
}

impl Verdict<'_> {
    /// Of a refusal for the quota, the wait it asks for, if it says one.
    fn throttled(&self) -> Option<Option<Duration>> {
        match self {
            Self::Throttled(wait, _) => Some(*wait),
            Self::Fail(error) if error.status() == Some(429) => Some(error.retry_after()),
            _ => None,
        }
    }
}

/// What an attempt's outcome says of the load of the host.
#[derive(Clone, Copy)]
enum Signal {
    Success,
    /// Refused for load: 503 and 504, a timeout, a refused connection.
    Overloaded,
    /// Answered, with something that has nothing to do with load.
    Answered,
    None,
}

impl Signal {
    /// Of a `patient` call, which is slow by nature (a file, or an answer the service may hold back), no slowness is
    /// load.
    fn of(outcome: &Result<Answer, Failure>, patient: bool) -> Self {
        match outcome {
            Ok(answer) if patient && answer.status == StatusCode::GATEWAY_TIMEOUT => Self::Answered,
            Err(failure) if patient && failure.kind == ErrorKind::Timeout => Self::None,
            Ok(answer) if answer.status.is_success() => Self::Success,
            Ok(answer) if matches!(answer.status.as_u16(), 503 | 504) => Self::Overloaded,
            Ok(_) => Self::Answered,
            Err(failure) if failure.is_overload() => Self::Overloaded,
            Err(_) => Self::None,
        }
    }
}

/// Runs a call to its end.
pub(crate) async fn run(client: &ClientShared, call: &Call<'_>) -> Result<Answer, Error> {
    let span = tracing::info_span!(
        "genesys_scripts.call",
        otel.name = call.operation.name,
        http.request.method = %call.operation.method,
        url.template = call.operation.route,
        server.address = call.host.name(),
        http.response.status_code = tracing::field::Empty,
        http.request.resend_count = tracing::field::Empty,
        error.type = tracing::field::Empty,
    );
    if span.is_disabled() {
        return Run::new(client, call, span).complete().await;
    }
    Run::new(client, call, span.clone()).complete().instrument(span).await
}

/// One call under way.
struct Run<'a> {
    client: &'a ClientShared,
    call: &'a Call<'a>,
    /// Its own span, and no caller's, is what is recorded on.
    span: tracing::Span,
    started: Instant,
    deadline: Instant,
    /// Requests sent, or tried to be.
    attempts: u32,
    /// Attempts that ended in a failure (not in throttling or a replaced token): what the policy bounds.
    failures: u32,
    backoffs: Option<Backoffs>,
    token_replaced: bool,
    /// How often the agent had logged out when the call began.
    logouts: u64,
    /// The answer that refused the token.
    unauthorized: Option<Error>,
    /// The last answer that named a quota.
    throttled: Option<Error>,
    /// Attempts the service may have acted on without its answer reaching us.
    lost: u32,
    may_have_been_sent: bool,
}

impl<'a> Run<'a> {
    fn new(client: &'a ClientShared, call: &'a Call<'a>, span: tracing::Span) -> Self {
        let started = Instant::now();
        Self {
            client,
            call,
            span,
            started,
            deadline: after(started, call.timeout),
            attempts: 0,
            failures: 0,
            backoffs: None,
            token_replaced: false,
            logouts: match &call.authority {
                Authority::Agent(slot) => slot.logouts(),
                _ => 0,
            },
            unauthorized: None,
            throttled: None,
            lost: 0,
            may_have_been_sent: false,
        }
    }

    async fn complete(mut self) -> Result<Answer, Error> {
        if !self.call.is_login() {
            if let Some(budget) = &self.client.budget {
                budget.call_begun();
            }
            self.client.counters.calls.add();
        }
        let result = self.attempts().await;
        if !self.call.is_login() {
            match &result {
                Ok(_) => self.client.counters.succeeded.add(),
                Err(error) => self.client.counters.failed(error),
            }
        }
        self.report(&result);
        result
    }

    async fn attempts(&mut self) -> Result<Answer, Error> {
        let mut turn = Turn::New;
        let mut probe: Option<Probe<'a>> = None;
        // The slot of an attempt that nobody can explain yet: kept for a backoff, so that nobody else runs into the same.
        let mut held: Option<Held<'a>> = None;
        loop {
            let token = self.token().await?;
            let pass = self.login_pass().await?;
            let gate = token.as_deref().filter(|_| self.call.takes_any_token()).map(Token::quota);
            let asked = Instant::now();
            let Some((permit, ticket)) = self.admission(turn, held.take(), gate).await? else {
                continue; // The token was replaced meanwhile.
            };
            if let Some(pass) = &pass {
                // A login's own time does not pass while it waits for a place.
                self.deadline = after(self.deadline, asked.elapsed());
                if !pass.holds() {
                    continue; // Refused to others meanwhile.
                }
            }
            let sent = permit.sent();
            let outcome = self.attempt(token.as_deref()).await;
            let signal = Signal::of(&outcome, self.call.attempt_timeout.is_some());
            if let Signal::Overloaded = signal {
                self.call.host.note_trouble(match &outcome {
                    Ok(answer) => format!("it answered {}", answer.status.as_u16()),
                    Err(failure) => failure.what.clone(),
                });
            }
            // A 5xx without a word on the quota is no answer about it: a gateway's, perhaps.
            let quota = outcome.as_ref().ok().map(|answer| (QuotaHeaders::parse(&answer.headers), answer.status));
            let quota = quota.filter(|(told, status)| told.allowed.is_some() || !status.is_server_error());
            let verdict = self.judge(outcome, token.as_deref());
            if let Verdict::ReplaceToken(error) | Verdict::Fail(error) = &verdict {
                // Before the ticket wakes another to try this token.
                self.reject(token.as_ref(), error);
            }
            if let (Some(ticket), Some((quota, _))) = (ticket, quota) {
                ticket.answered(Instant::now(), &quota, verdict.throttled());
            }
            if let Some(pass) = pass {
                settle_login_pass(pass, &verdict);
            }
            // The permit ends here, on every path, before anything waits.
            let (error, finding) = match verdict {
                Verdict::InvalidDefinition(script, error) => {
                    let finding = self.client.history.invalid(script, sent, Instant::now(), probe.take());
                    match &finding {
                        Finding::Overload => permit.overloaded(Instant::now()),
                        Finding::Probe(_) | Finding::Wait(_) => held = Some(permit.undecided()),
                        Finding::Broken | Finding::Unknown => permit.neutral(),
                    }
                    (error, finding)
                }
                other => {
                    self.settle(permit, signal);
                    match other {
                        Verdict::Done(answer) => return Ok(self.done(answer, token)),
                        Verdict::ReplaceToken(error) => {
                            self.unauthorized = Some(error);
                            self.token_replaced = true;
                        }
                        Verdict::Throttled(wait, error) => self.wait_for_quota(wait, error).await?,
                        Verdict::Retry(floor, error) => self.back_off(floor, error).await?,
                        Verdict::Fail(error) | Verdict::InvalidDefinition(_, error) => return Err(self.ended(error)),
                    }
                    turn = Turn::Again;
                    continue;
                }
            };
            let finding = match finding {
                Finding::Wait(wait) => {
                    wait.verdict(&mut held, self.client.settings.retry.initial_backoff, self.deadline).await
                }
                other => other,
            };
            match finding {
                Finding::Broken => {
                    let error = error.found(Found::BrokenScript);
                    self.count_bad_request(&error);
                    return Err(self.ended(error));
                }
                Finding::Unknown => {
                    self.count_bad_request(&error);
                    return Err(self.ended(error));
                }
                Finding::Overload | Finding::Wait(_) => {
                    let error = error.found(Found::Overload);
                    self.count_bad_request(&error);
                    // The limit has just fallen, so the first time the queue is pause enough.
                    if turn == Turn::New {
                        let error = self.count_failure(Duration::ZERO, error)?;
                        self.pay_for_a_retry(error)?;
                    } else {
                        drop(held.take());
                        self.back_off(None, error).await?;
                    }
                    turn = Turn::Again;
                }
                Finding::Probe(next) => {
                    self.count_bad_request(&error);
                    let backoff = self.next_backoff();
                    let error = self.count_failure(backoff, error)?;
                    let left = self.client.settings.retry.attempts.saturating_sub(self.failures);
                    turn = match next.turn(&mut held, backoff, left, self.deadline).await {
                        Some(turn) => turn,
                        None => return Err(self.ended(error.gave_up(GaveUp::DeadlineWouldPass))),
                    };
                    self.pay_for_a_retry(error)?;
                    probe = Some(next);
                }
            }
        }
    }

    /// What the attempt says of the host's load.
    fn settle(&self, permit: Permit<'a>, signal: Signal) {
        match signal {
            Signal::Success => {
                if let Some(script) = self.call.script()
                    && let Some(refused) = self.client.history.success(script, permit.sent(), Instant::now())
                {
                    self.call.host.overload.decide_overloaded(refused);
                }
                permit.success();
            }
            Signal::Overloaded => permit.overloaded(Instant::now()),
            Signal::Answered => permit.neutral(),
            Signal::None => drop(permit),
        }
    }

    fn done(&self, mut answer: Answer, token: Option<Arc<Token>>) -> Answer {
        answer.token = token;
        answer.attempts = self.attempts;
        answer.elapsed = self.started.elapsed();
        answer
    }

    /// The agent's token. A login that failed ends the call: its own loop is over.
    async fn token(&self) -> Result<Option<Arc<Token>>, Error> {
        let slot = match &self.call.authority {
            Authority::Agent(slot) => slot,
            Authority::Token(token) => return Ok(Some(Arc::clone(token))),
            Authority::Login { .. } | Authority::SignedUrl { .. } => return Ok(None),
        };
        match slot.token(self.call.operation.name, self.logouts, self.deadline).await {
            Ok(token) => Ok(Some(token)),
            // No login failed: nothing can replace the token. What the service said of it tells more.
            Err(error) if error.kind() == ErrorKind::Unauthorized => {
                Err(self.ended(self.unauthorized.clone().unwrap_or(error)))
            }
            Err(error) => {
                let (operation, subject) = (self.call.operation.name, self.call.subject);
                Err(error.of_login(operation, subject, self.attempts, self.started.elapsed()))
            }
        }
    }

    /// The OAuth client's leave to log in. Its wait is not the login's own time.
    async fn login_pass(&mut self) -> Result<Option<LoginPass<'a>>, Error> {
        let Authority::Login { gate, .. } = &self.call.authority else { return Ok(None) };
        let asked = Instant::now();
        let latest = after(self.started, self.client.settings.login_throttle_timeout);
        let pass = gate.admit(latest).await.map_err(|refused| {
            let wait = refused.possible_at.map(|at| at.saturating_duration_since(Instant::now()));
            self.ended(
                Error::new(ErrorKind::Throttled, "logins of this OAuth client are throttled").with_retry_after(wait),
            )
        })?;
        self.deadline = after(self.deadline, asked.elapsed());
        Ok(Some(pass))
    }

    /// Waits for the quota, then for the permit, then takes the quota without waiting: should it be gone by then, the
    /// permit goes back to others meanwhile. None where the token was replaced.
    async fn admission<'q>(
        &self,
        turn: Turn,
        mut held: Option<Held<'a>>,
        gate: Option<&'q QuotaGate>,
    ) -> Result<Option<(Permit<'a>, Option<Ticket<'q>>)>, Error> {
        let Some(gate) = gate else { return Ok(Some((self.permit(turn, held).await?, None))) };
        let mut quota = gate.turn(self.started);
        loop {
            if gate.would_wait() {
                // For up to a whole window: nothing is held that long.
                held = None;
            }
            match quota.wait(self.deadline).await {
                Ok(()) => {}
                Err(refused) if refused.why == QuotaRefusal::Retired => return Ok(None),
                Err(refused) => return Err(self.no_quota(refused)),
            }
            let permit = self.permit(turn, held.take()).await?;
            if let Some(ticket) = quota.take(Instant::now()) {
                return Ok(Some((permit, Some(ticket))));
            }
        }
    }

    fn no_quota(&self, refused: QuotaRefused) -> Error {
        let wait = refused.available_at.map(|at| at.saturating_duration_since(Instant::now()));
        let error = match (&self.throttled, refused.why) {
            (Some(answered), _) => answered.clone().gave_up(GaveUp::DeadlineWouldPass),
            (None, QuotaRefusal::QueueFull) => {
                Error::new(ErrorKind::Throttled, "too many calls wait for the quota of this agent's token already")
            }
            (None, _) => Error::new(
                ErrorKind::Throttled,
                "the quota of this agent's token is spent, and comes back only after the call's deadline",
            ),
        };
        self.ended(error.with_retry_after(wait))
    }

    /// A place among the attempts in flight to the host.
    async fn permit(&self, turn: Turn, held: Option<Held<'a>>) -> Result<Permit<'a>, Error> {
        let host = self.call.host;
        let latest = match self.call.is_login() {
            true => after(self.started, self.client.settings.login_throttle_timeout),
            false => self.deadline,
        };
        host.overload.acquire(turn, held, latest).await.map_err(|refused| {
            self.ended(match refused {
                Refused::Shut { until } => {
                    let wait = until.saturating_duration_since(Instant::now());
                    let last = host.trouble().map(|last| format!(" (last, {last})")).unwrap_or_default();
                    let what =
                        format!("{} is down, or refuses everything for now{last}; it is asked again then", host.name());
                    Error::new(ErrorKind::Unavailable, what).with_retry_after(Some(wait))
                }
                Refused::QueueFull => {
                    let what = format!("too many calls of this client wait for {} already", host.name());
                    Error::new(ErrorKind::Unavailable, what)
                }
                Refused::Deadline => {
                    let what = format!(
                        "the call's time ran out while it waited its turn among this client's calls to {}",
                        host.name()
                    );
                    Error::new(ErrorKind::Timeout, what)
                }
            })
        })
    }

    /// Sends the request once and reads the whole answer.
    async fn attempt(&mut self, token: Option<&Token>) -> Result<Answer, Failure> {
        let mut request = (self.call.request)().map_err(Failure::not_built)?;
        if let Some(token) = token {
            request.headers_mut().insert(AUTHORIZATION, token.bearer().clone());
        }
        self.attempts = self.attempts.saturating_add(1);
        self.count_attempt();
        let settings = &self.client.settings;
        let attempt_timeout = settings.attempt_timeout.max(self.call.attempt_timeout.unwrap_or_default());
        let limit = self.deadline.min(after(Instant::now(), attempt_timeout));
        let span = tracing::debug_span!("genesys_scripts.attempt", http.request.resend_count = self.attempts - 1);
        let exchange = exchange(self.call.host, request, settings.max_body_bytes);
        let outcome = if span.is_disabled() {
            timeout_at(limit, exchange).await
        } else {
            timeout_at(limit, exchange.instrument(span)).await
        };
        let outcome = outcome.unwrap_or_else(|_| {
            Err(Failure::timed_out(self.call.host.name(), self.deadline <= limit, attempt_timeout))
        });
        match &outcome {
            Err(failure) if failure.never_sent => {}
            Err(_) => self.lost = self.lost.saturating_add(1),
            Ok(answer) if answer.transient && answer.status != StatusCode::TOO_MANY_REQUESTS => {
                self.lost = self.lost.saturating_add(1);
            }
            Ok(_) => {}
        }
        self.may_have_been_sent |= !matches!(&outcome, Err(failure) if failure.never_sent);
        outcome
    }

    fn judge(&self, outcome: Result<Answer, Failure>, token: Option<&Token>) -> Verdict<'a> {
        match outcome {
            Ok(answer) if answer.status.is_success() => Verdict::Done(answer),
            // Without a token to lose, it can be followed; whose call it is checks where to.
            Ok(answer) if answer.status.is_redirection() && self.is_signed_url() => Verdict::Done(answer),
            Ok(answer) => self.judge_refusal(&answer, token),
            Err(failure) => self.judge_failure(failure),
        }
    }

    fn is_signed_url(&self) -> bool {
        matches!(self.call.authority, Authority::SignedUrl { .. })
    }

    fn judge_refusal(&self, answer: &Answer, token: Option<&Token>) -> Verdict<'a> {
        let (endpoint, secrets) = match &self.call.authority {
            Authority::Login { secrets, .. } => (Endpoint::Login, secrets.clone()),
            Authority::SignedUrl { secrets } => (Endpoint::SignedUrl, secrets.clone()),
            _ => (Endpoint::Api, token.map(Token::secret).into_iter().collect()),
        };
        let cap = self.client.settings.retry.retry_after_cap;
        // Built once more to see what was asked: only on this path, and the same as was sent.
        let sent = (answer.status == StatusCode::BAD_REQUEST).then(|| (self.call.request)().ok()).flatten();
        let parameters: Vec<_> = sent.iter().flat_map(|sent| sent.url().query_pairs().map(|(name, _)| name)).collect();
        let parameters: Vec<&str> = parameters.iter().map(AsRef::as_ref).collect();
        let facts = RequestFacts::of(self.call.operation, self.call.subject, &parameters);
        let error = refusal::error(answer, endpoint, facts, &secrets);
        let wait = retry_after::read(&answer.headers, self.client.now(), cap)
            .or_else(|| error.message().and_then(|message| retry_after::hint(message, cap)));
        let (floor, error) = match wait {
            // Another token may be accepted at once.
            Some(Wait::BeyondCap(_)) if answer.status == StatusCode::UNAUTHORIZED => (None, error),
            Some(Wait::BeyondCap(wait)) => {
                return Verdict::Fail(error.with_retry_after(Some(wait)).gave_up(GaveUp::WaitBeyondCap));
            }
            Some(Wait::AtLeast(wait)) => (Some(wait), error.with_retry_after(Some(wait))),
            None => (None, error),
        };
        if let Some(script) = self.call.script()
            && bad_request::is_invalid_definition(&error)
        {
            return Verdict::InvalidDefinition(script, error);
        }
        self.count_bad_request(&error);
        match answer.status {
            StatusCode::UNAUTHORIZED if self.can_replace_token() => Verdict::ReplaceToken(error),
            StatusCode::TOO_MANY_REQUESTS => Verdict::Throttled(floor, error),
            StatusCode::BAD_REQUEST if error.is_throttled() => Verdict::Throttled(floor, error),
            _ if !answer.transient => Verdict::Fail(error),
            _ if self.may_repeat(false) => Verdict::Retry(floor, error),
            _ => Verdict::Fail(error.gave_up(GaveUp::NotIdempotent)),
        }
    }

    /// Once a call, and only by a call that takes whatever token its agent has.
    fn can_replace_token(&self) -> bool {
        self.call.takes_any_token() && !self.token_replaced
    }

    /// Whether the request may be sent again after this attempt.
    fn may_repeat(&self, never_sent: bool) -> bool {
        match self.call.operation.repeat {
            Repeat::Always => true,
            Repeat::IfNeverSent => never_sent,
            Repeat::OnceIfLost => never_sent || self.lost <= 1,
        }
    }

    fn judge_failure(&self, failure: Failure) -> Verdict<'a> {
        let (transient, never_sent) = (failure.transient, failure.never_sent);
        let error = failure::error(failure);
        if !transient {
            Verdict::Fail(error)
        } else if self.may_repeat(never_sent) {
            Verdict::Retry(None, error)
        } else {
            Verdict::Fail(error.gave_up(GaveUp::NotIdempotent))
        }
    }

    fn reject(&self, token: Option<&Arc<Token>>, error: &Error) {
        if let (Authority::Agent(slot), Some(token)) = (&self.call.authority, token)
            && error.kind() == ErrorKind::Unauthorized
        {
            slot.reject(token, self.call.operation.name, error);
        }
    }

    /// Waits as long as a quota asks: a login at the gate of its OAuth client, a call at the gate of its token. Where
    /// the user switched those off, here.
    async fn wait_for_quota(&mut self, wait: Option<Duration>, error: Error) -> Result<(), Error> {
        let counters = &self.client.counters;
        if self.call.is_login() {
            counters.login_throttled.add()
        } else {
            counters.throttled.add()
        }
        if self.call.is_login() || (self.call.takes_any_token() && self.client.settings.quota.enabled) {
            self.throttled = Some(error);
            return Ok(());
        }
        let wait = match wait {
            Some(wait) => wait.saturating_add(self.next_backoff()),
            None => self.next_backoff(),
        };
        self.sleep(wait, error).await
    }

    /// Waits a backoff before a further attempt, if there may be one.
    async fn back_off(&mut self, floor: Option<Duration>, error: Error) -> Result<(), Error> {
        let wait = self.next_backoff().saturating_add(floor.unwrap_or_default());
        let error = self.count_failure(wait, error)?;
        self.sleep(wait, error.clone()).await?;
        self.pay_for_a_retry(error)
    }

    /// Counts a failed attempt, and ends the call where there may be no further one after this wait.
    fn count_failure(&mut self, wait: Duration, error: Error) -> Result<Error, Error> {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.client.settings.retry.attempts {
            return Err(self.ended(error.gave_up(GaveUp::AttemptsSpent)));
        }
        if Instant::now().checked_add(wait).is_none_or(|at| at >= self.deadline) {
            return Err(self.ended(error.gave_up(GaveUp::DeadlineWouldPass)));
        }
        if let Authority::Login { slot, .. } = &self.call.authority {
            // For those whose time runs out while this login goes on.
            slot.note_login_trouble(&error);
        }
        Ok(error)
    }

    /// Takes a retry from the budget, just before it is sent: a call that fails only then has waited, and does not let
    /// the next one run into a host that refuses at once.
    fn pay_for_a_retry(&self, error: Error) -> Result<(), Error> {
        match &self.client.budget {
            Some(budget) if !budget.take() => Err(self.ended(error.gave_up(GaveUp::BudgetSpent))),
            _ => Ok(()),
        }
    }

    fn next_backoff(&mut self) -> Duration {
        let retry = &self.client.settings.retry;
        let bound = self.backoffs.get_or_insert_with(|| retry.backoffs()).next().unwrap_or(retry.max_backoff);
        self.client.random.below(bound)
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
        error.maybe_sent(self.may_have_been_sent).lost_answers(self.lost).ended(
            self.call.operation.name,
            self.call.subject,
            self.attempts,
            self.started.elapsed(),
        )
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
        } else {
            counters.attempts.add();
            if self.attempts > 1 {
                counters.retries.add();
            }
        }
    }

    fn report(&self, result: &Result<Answer, Error>) {
        let span = &self.span;
        if !span.is_disabled() {
            span.record("http.request.resend_count", self.attempts.saturating_sub(1));
            match result {
                Ok(answer) => span.record("http.response.status_code", answer.status.as_u16()),
                Err(error) => {
                    if let Some(status) = error.status() {
                        span.record("http.response.status_code", status);
                    }
                    span.record("error.type", tracing::field::debug(error.kind()))
                }
            };
        }
    }
}

fn settle_login_pass(pass: LoginPass<'_>, verdict: &Verdict<'_>) {
    match verdict {
        Verdict::Done(_) => pass.accepted(),
        Verdict::Throttled(wait, _) => pass.throttled(*wait),
        Verdict::Fail(error) if error.is_throttled() => pass.throttled(error.retry_after()),
        // Refused for its own reasons, so no limit was in the way. Whether it counts against one is not documented [U].
        Verdict::Fail(error) if error.status().is_some_and(|status| status < 500) => pass.accepted(),
        _ => drop(pass),
    }
}

/// `from + wait`, or so far ahead that it makes no difference.
pub(crate) fn after(from: Instant, wait: Duration) -> Instant {
    const AGES: Duration = Duration::from_secs(60 * 60 * 24 * 365);
    from.checked_add(wait.min(AGES)).unwrap_or(from)
}

/// One request through the user's middlewares and reqwest, and its whole body, no larger than allowed.
async fn exchange(host: &Host, request: Request, max_body: usize) -> Result<Answer, Failure> {
    let mut response = host
        .http
        .execute_with_extensions(request, &mut http::Extensions::new())
        .await
        .map_err(|error| Failure::of_transport(error, host.name()))?;
    let transient = matches!(default_on_request_success(&response), Some(Retryable::Transient));
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let mut body = Bytes::new();
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            // A refusal that breaks off is one all the same.
            Err(_) if !status.is_success() => break,
            Err(error) => return Err(Failure::broken_off(error, host.name(), body.len())),
        };
        if body.len().saturating_add(chunk.len()) > max_body {
            if status.is_success() {
                return Err(Failure::too_large(host.name(), max_body));
            }
            // A refusal's status says enough: what is left of its page is not read.
            break;
        }
        body = if body.is_empty() {
            chunk
        } else {
            let mut joined = BytesMut::from(body);
            joined.extend_from_slice(&chunk);
            joined.freeze()
        };
    }
    Ok(Answer { status, headers, body, transient, token: None, attempts: 0, elapsed: Duration::ZERO })
}
