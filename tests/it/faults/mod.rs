//! What goes wrong between two machines, over real sockets: each row says how a call ends, after how many attempts, and that
//! nothing of it is left, neither a place in flight nor a connection nor a task.

mod cancel;
mod http1;
#[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc"))]
mod http2;
mod server;
mod shutdown;
#[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc"))]
mod tls;

use std::sync::Arc;
use std::time::Duration;

use genesys_scripts::{
    Client, ClientBuilder, Credentials, Error, ErrorKind, OAuthClient, PublishScript, Region, RetryPolicy,
};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::common::{credentials, id};
use server::Server;

/// The attempts of a call that fails for ever.
const ATTEMPTS: u32 = 3;
/// A call that is not over by then hangs.
const CALL: Duration = Duration::from_secs(20);
/// No attempt takes as long, but where the host is silent.
const ATTEMPT: Duration = Duration::from_secs(10);
const MOST_BYTES: usize = 64 * 1024;

/// A fault, and how a call ends that meets it for ever.
#[derive(Clone)]
struct Row {
    what: &'static str,
    kind: ErrorKind,
    status: Option<u16>,
    /// Of what may be repeated; what may not is sent once.
    attempts: u32,
    /// Of an attempt, at most.
    connections: usize,
    /// Whether the request leaves this machine.
    sent: bool,
    /// Whether the same call may fare better later.
    retryable: bool,
    /// What the error says.
    words: &'static [&'static str],
    /// Whether the host can get well again.
    heals: bool,
    /// For a host that is silent: nobody waits for longer than an attempt may take.
    attempt: Duration,
    configure: fn(ClientBuilder) -> ClientBuilder,
}

impl Row {
    fn new(what: &'static str, kind: ErrorKind) -> Self {
        let configure = |builder| builder;
        let (attempts, words) = (1, &[][..]);
        let (status, connections, retryable, sent, heals) = (None, 1, false, true, true);
        Self { what, kind, status, attempts, connections, sent, retryable, words, heals, attempt: ATTEMPT, configure }
    }

    /// Worth further attempts.
    fn passing(self) -> Self {
        Self { attempts: ATTEMPTS, retryable: true, ..self }
    }

    fn silent(self) -> Self {
        Self { attempt: Duration::from_millis(150), ..self.passing() }
    }

    fn never_sent(self) -> Self {
        Self { sent: false, ..self }
    }

    /// What refuses is asked once more for its reason.
    fn asked_why(self) -> Self {
        Self { connections: 2, ..self }
    }

    fn says(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    fn status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    fn trial(&self, api: Server, login: Server) -> Trial {
        let configure = self.configure;
        Trial::new(api, login, |builder| configure(builder.attempt_timeout(self.attempt).max_body_bytes(MOST_BYTES)))
    }

    /// What all who meet it are told.
    fn is_told(&self, error: &Error) {
        let (what, words) = (self.what, error.to_string());
        assert_eq!((error.kind(), error.status()), (self.kind, self.status), "{what}: {error}");
        assert_eq!(error.is_retryable(), self.retryable, "{what}: {error}");
        assert!(self.words.iter().all(|one| words.contains(one)), "{what}: {error}");
        assert!(error.elapsed() <= CALL, "{what}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{what}: {error}");
    }

    fn attempts_of_what_may_not_be_repeated(&self) -> u32 {
        if self.sent { 1 } else { self.attempts }
    }

    /// How a read and a publish end at this host, and that both are served once it is well.
    async fn of_an_operation(self, faulty: Server) {
        let what = self.what;
        let reaches = !faulty.is_deaf();
        let mut trial = self.trial(faulty, Server::well());
        let agent = trial.client.agent(Credentials::access_token("t0ken"));
        let mut attempts = 0;
        for is_post in [false, true] {
            let call = async {
                match is_post {
                    true => agent.publish(&id(), &PublishScript::default()).await,
                    false => agent.script(&id()).await,
                }
            };
            let error = timeout(CALL, call).await.expect(what).unwrap_err();
            self.is_told(&error);
            assert!(!error.is_login() && error.may_have_been_sent() == self.sent, "{what}: {error}");
            let expected = if is_post { self.attempts_of_what_may_not_be_repeated() } else { self.attempts };
            assert_eq!(error.attempts(), expected, "{what}: {error}");
            attempts += expected as usize;
            if self.sent {
                assert_eq!(trial.api.requests(), attempts, "{what}, a publish: {is_post}");
            }
            trial.is_at_rest(what);
        }
        assert!(trial.api.connections() <= if reaches { attempts * self.connections } else { 0 }, "{what}");
        if self.heals {
            trial.get_well();
            agent.script(&id()).await.expect(what);
            agent.publish(&id(), &PublishScript::default()).await.expect(what);
        }
        // What failed is closed. Of an answer that was read far enough to know the connection is good, two may be kept.
        trial.api.open_no_more_than(2).await;
        trial.is_at_rest(what);
        drop(agent);
        trial.ends(what).await;
    }

    /// How logins end at this token endpoint, and that they succeed once it is well.
    async fn of_the_token_endpoint(self, faulty: Server) {
        let what = self.what;
        let mut trial = self.trial(Server::well(), faulty);
        let agent = trial.client.agent(credentials());
        let error = timeout(CALL, agent.script(&id())).await.expect(what).unwrap_err();
        self.is_told(&error);
        assert!(error.is_login() && error.attempts() == 0 && !error.may_have_been_sent(), "{what}: {error}");
        assert_eq!(trial.client.stats().login_attempts, u64::from(self.attempts), "{what}: {error}");
        trial.is_at_rest(what);
        // A code is good for one login: it is not sent again, unless it never left.
        let code = trial.client.agent(code());
        let error = timeout(CALL, code.script(&id())).await.expect(what).unwrap_err();
        let attempts = u64::from(self.attempts + self.attempts_of_what_may_not_be_repeated());
        assert_eq!(trial.client.stats().login_attempts, attempts, "{what}: {error}");
        match self.sent {
            true => assert_eq!((error.kind(), error.is_login()), (ErrorKind::LoginRefused, true), "{what}: {error}"),
            false => self.is_told(&error),
        }
        if self.heals {
            trial.get_well();
            assert_eq!(code.script(&id()).await.is_err(), self.sent, "{what}");
            agent.script(&id()).await.expect(what);
        }
        trial.login.open_no_more_than(2).await;
        trial.is_at_rest(what);
        drop((agent, code));
        trial.ends(what).await;
    }
}

fn code() -> Credentials {
    Credentials::AuthorizationCode {
        client: OAuthClient::new("client-id", "hunter2-the-secret"),
        code: "hunter2-the-code".into(),
        redirect_uri: "https://example.com/back".to_owned(),
        verifier: None,
    }
}

/// Every row in a call and in a login, whatever becomes of the others.
async fn all<F>(rows: impl IntoIterator<Item = (Row, F)>)
where
    F: Fn() -> Server + Send + Sync + 'static,
{
    let mut failed = Vec::new();
    for (row, faulty) in rows {
        let (what, faulty) = (row.what, Arc::new(faulty));
        let call = row.clone().of_an_operation(faulty());
        if tokio::spawn(call).await.is_err() {
            failed.push((what, "in a call"));
        }
        if tokio::spawn(row.of_the_token_endpoint(faulty())).await.is_err() {
            failed.push((what, "in a login"));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// An api host and a login host, a client of theirs, and what there was before it.
struct Trial {
    api: Server,
    login: Server,
    client: Client,
    tasks_before: usize,
}

impl Trial {
    /// With a single place in flight to each host: one that is lost is missed at once.
    fn new(api: Server, login: Server, configure: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        let mut retry = RetryPolicy::default();
        retry.attempts = ATTEMPTS;
        retry.initial_backoff = Duration::ZERO;
        retry.max_backoff = Duration::ZERO;
        let region = Region::custom(&api.url, &login.url, &api.url).unwrap();
        let builder = Client::builder(region).retry(retry).call_timeout(CALL).login_timeout(CALL).max_in_flight(1);
        let builder = match api.proxy.as_ref().or(login.proxy.as_ref()) {
            Some(proxy) => builder.proxy(proxy),
            None => builder,
        };
        let client = configure(builder).build().unwrap();
        Self { api, login, client, tasks_before: alive_tasks() }
    }

    fn get_well(&mut self) {
        for host in [&self.api, &self.login] {
            // One that was deaf begins to listen.
            self.tasks_before += usize::from(host.is_deaf());
            host.get_well();
        }
    }

    /// Nothing is under way any more.
    fn is_at_rest(&self, row: &str) {
        let stats = self.client.stats();
        for host in [stats.api, stats.login, stats.upload] {
            assert_eq!((host.in_flight, host.waiting), (0, 0), "{row}");
        }
    }

    /// The client is dropped, its agents were: all that it began ends, and so do its connections.
    async fn ends(self, row: &str) {
        let Self { api, login, client, tasks_before } = self;
        drop(client);
        api.open_no_more_than(0).await;
        login.open_no_more_than(0).await;
        let ended = timeout(Duration::from_secs(10), async {
            while alive_tasks() > tasks_before {
                sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(ended.await.is_ok(), "{row}: {} tasks are left of {tasks_before}", alive_tasks());
    }
}
