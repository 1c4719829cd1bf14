//! What tests stand on. Here a transport that answers from a script of ours, without sockets, so that tokio's clock can
//! be paused; in `wire` a server that says exactly what it is told; in `herd` many agents before the simulator.

pub(crate) mod herd;
pub(crate) mod redis;
pub(crate) mod wire;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use genesys_scripts::{Client, ClientBuilder, Credentials, Region, RetryPolicy, ScriptId};
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next};
use tokio::time::Instant;

pub(crate) const ID: &str = "476c2b71-7429-11e4-9a5b-3f91746bffa3";
pub(crate) const HERE: &str = "http://127.0.0.1:9";

pub(crate) fn id() -> ScriptId {
    ID.parse().unwrap()
}

/// What this thread tells goes to the subscriber.
pub(crate) fn listen_here(subscriber: impl Into<tracing::Dispatch>) -> tracing::subscriber::DefaultGuard {
    // Where there is but one subscriber, `tracing` asks only the thread that meets a place first whether anybody listens there, and
    // that may be another test's.
    static SECOND: LazyLock<tracing::Dispatch> = LazyLock::new(|| tracing_subscriber::registry().into());
    LazyLock::force(&SECOND);
    tracing::dispatcher::set_default(&subscriber.into())
}

/// A single attempt a call.
pub(crate) fn once() -> RetryPolicy {
    let mut once = RetryPolicy::default();
    once.attempts = 1;
    once
}

/// What one request is answered with.
pub(crate) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// The connection breaks like this.
    Broken(io::ErrorKind),
    /// Nothing comes back.
    Silence,
    /// This, so much later than others.
    Later(Duration, Box<Reply>),
}

pub(crate) fn reply(status: u16, body: impl Into<String>) -> Reply {
    Reply::Answer { status, headers: Vec::new(), body: body.into() }
}

pub(crate) fn script() -> Reply {
    reply(200, format!(r#"{{"id":"{ID}","name":"Inbound"}}"#))
}

pub(crate) fn token(token: &str) -> Reply {
    reply(200, format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":86400}}"#))
}

impl Reply {
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Reply::Answer { headers, .. } = &mut self {
            headers.push((name, value.into()));
        }
        self
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) at: Duration,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn is_login(&self) -> bool {
        self.url.ends_with("/oauth/token")
    }
}

type Answering = Box<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// Answers each request by a function, or from a queue; records what it saw.
#[derive(Clone)]
pub(crate) struct Scripted {
    answering: Arc<Answering>,
    seen: Arc<Mutex<Vec<Seen>>>,
    started: Instant,
    latency: Duration,
}

impl Scripted {
    pub(crate) fn by(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self {
            answering: Arc::new(Box::new(answer)),
            seen: Arc::default(),
            started: Instant::now(),
            latency: Duration::from_millis(20),
        }
    }

    /// One reply after another; a login is always answered with a token.
    pub(crate) fn replies(replies: impl IntoIterator<Item = Reply>) -> Self {
        let queue = Mutex::new(replies.into_iter().collect::<VecDeque<_>>());
        Self::by(move |seen| {
            if seen.is_login() {
                return token("the-access-token");
            }
            queue.lock().unwrap().pop_front().expect("more requests than replies")
        })
    }

    /// What it would say to this.
    pub(crate) fn answer(&self, seen: &Seen) -> Reply {
        (self.answering)(seen)
    }

    pub(crate) fn with_latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn logins(&self) -> usize {
        self.seen().iter().filter(|seen| seen.is_login()).count()
    }

    pub(crate) fn calls(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| !seen.is_login()).collect()
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        let region = Region::custom(HERE, HERE, HERE).unwrap();
        Client::builder(region).seed(1).with_middleware(self.clone())
    }

    pub(crate) fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    pub(crate) fn agent(&self) -> genesys_scripts::Agent {
        self.client().agent(credentials())
    }
}

pub(crate) const SECRET: &str = "hunter2-the-secret";

pub(crate) fn credentials() -> Credentials {
    Credentials::client("client-id", SECRET)
}

#[async_trait]
impl Middleware for Scripted {
    async fn handle(
        &self,
        request: Request,
        _: &mut http::Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let seen = Seen {
            at: self.started.elapsed(),
            method: request.method().to_string(),
            url: request.url().to_string(),
            headers: request.headers().clone(),
            body: request.body().and_then(|body| body.as_bytes()).unwrap_or_default().to_vec(),
        };
        let reply = (self.answering)(&seen);
        self.seen.lock().unwrap().push(seen);
        tokio::time::sleep(self.latency).await;
        let reply = match reply {
            Reply::Later(wait, reply) => {
                tokio::time::sleep(wait).await;
                *reply
            }
            reply => reply,
        };
        match reply {
            Reply::Answer { status, headers, body } => {
                let mut response = http::Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                Ok(Response::from(response.body(body).unwrap()))
            }
            Reply::Broken(kind) => Err(reqwest_middleware::Error::Middleware(io::Error::from(kind).into())),
            Reply::Silence | Reply::Later(..) => {
                tokio::time::sleep(Duration::from_secs(1_000_000)).await;
                Err(reqwest_middleware::Error::Middleware(io::Error::from(io::ErrorKind::TimedOut).into()))
            }
        }
    }
}
