//! The two that are compared: the simplest client a user would write instead, and the crate.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use genesys_scripts::{Agent, Client, Credentials, ReadScript, ReadVariables, Region, ScriptId};
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::judge::Run;
use crate::service::{Answer, Asked, Reset, Service};
use crate::world::{Call, Route, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Crate,
    Plain,
}

/// Runs a world once, with this luck, on a clock of its own that leaps when nothing can be done.
pub(crate) fn run(world: &Arc<World>, who: Who, luck: u64) -> Run {
    let luck = world.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(luck);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let service = Arc::new(Service::new(Arc::clone(world), luck));
        let agents = match who {
            Who::Plain => Vec::new(),
            Who::Crate => (0..world.clients).map(|client| agents(world, client, &service, luck)).collect(),
        };
        let began = Instant::now();
        let mut calls = JoinSet::new();
        for (number, call) in world.calls.iter().copied().enumerate() {
            let service = Arc::clone(&service);
            let agent = agents.get(call.client).map(|agents: &Vec<Agent>| agents[call.agent].clone());
            calls.spawn(async move {
                sleep_until(began + call.at).await;
                let begun = Instant::now();
                let served = match agent {
                    Some(agent) => by_crate(&agent, call).await,
                    None => plainly(&service, call, luck ^ ((number as u64) << 20)).await,
                };
                (served, begun.elapsed())
            });
        }
        let results = calls.join_all().await;
        let (requests, failed) = service.counts();
        Run::new(&results, requests, failed)
    })
}

impl Call {
    fn asked(self) -> Asked {
        Asked { client: self.client, agent: self.agent, route: self.route, script: self.script }
    }
}

const ATTEMPTS: u32 = 8;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
const CALL_TIMEOUT: Duration = Duration::from_secs(100);

/// Retries with full jitter, and knows nothing else.
async fn plainly(service: &Service, call: Call, luck: u64) -> bool {
    let mut luck = Rng::with_seed(luck);
    let deadline = Instant::now() + CALL_TIMEOUT;
    for attempt in 0..ATTEMPTS {
        let limit = deadline.min(Instant::now() + ATTEMPT_TIMEOUT);
        if let Ok(Ok(Answer { status: 200, .. })) = timeout_at(limit, service.answer(call.asked())).await {
            return true;
        }
        let backoff = (FIRST_BACKOFF * 2_u32.pow(attempt)).min(LONGEST_BACKOFF).mul_f64(luck.f64());
        if attempt + 1 == ATTEMPTS || Instant::now() + backoff >= deadline {
            return false;
        }
        sleep(backoff).await;
    }
    false
}

const HERE: &str = "http://127.0.0.1:9";

/// One client of the crate with nothing configured, and its agents.
fn agents(world: &World, client: usize, service: &Arc<Service>, luck: u64) -> Vec<Agent> {
    let transport = Transport { service: Arc::clone(service), client };
    let region = Region::custom(HERE, HERE, HERE).unwrap();
    let client = Client::builder(region).seed(luck.wrapping_add(client as u64)).with_middleware(transport).build();
    let client = client.unwrap();
    (0..world.agents).map(|agent| client.agent(Credentials::access_token(format!("token-{agent}")))).collect()
}

async fn by_crate(agent: &Agent, call: Call) -> bool {
    let id: ScriptId = format!("476c2b71-7429-11e4-9a5b-{:012}", call.script).parse().unwrap();
    match call.route {
        Route::Script => agent.script(&id).await.is_ok(),
        Route::Published => agent.published_script(&id, &ReadScript::default()).await.is_ok(),
        Route::Pages => agent.script_pages(&id, &ReadScript::default()).await.is_ok(),
        Route::Variables => agent.published_variables(&id, &ReadVariables::default()).await.is_ok(),
    }
}

/// The crate's way to the service: without sockets.
struct Transport {
    service: Arc<Service>,
    client: usize,
}

impl Transport {
    fn asked(&self, request: &Request) -> Asked {
        let path: Vec<&str> = request.url().path_segments().unwrap().skip(3).collect();
        let (route, id) = match *path.as_slice() {
            ["published", id] => (Route::Published, id),
            ["published", id, "variables"] => (Route::Variables, id),
            [id, "pages"] => (Route::Pages, id),
            [id] => (Route::Script, id),
            _ => panic!("no operation of these worlds: {}", request.url()),
        };
        let bearer = request.headers()["authorization"].to_str().unwrap();
        Asked {
            client: self.client,
            agent: bearer.trim_start_matches("Bearer token-").parse().unwrap(),
            route,
            script: id.rsplit('-').next().unwrap().parse().unwrap(),
        }
    }
}

#[async_trait]
impl Middleware for Transport {
    async fn handle(
        &self,
        request: Request,
        _: &mut http::Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let asked = self.asked(&request);
        match self.service.answer(asked).await {
            Ok(answer) => Ok(response(&answer, asked.route, request.url().path())),
            Err(Reset) => {
                let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                Err(reqwest_middleware::Error::Middleware(reset.into()))
            }
        }
    }
}

fn response(answer: &Answer, route: Route, path: &str) -> Response {
    let mut response = http::Response::builder().status(answer.status);
    if let Some(seconds) = answer.retry_after {
        response = response.header("retry-after", seconds);
    }
    if let Some((allowed, used, left)) = answer.window {
        response = response
            .header("inin-ratelimit-allowed", allowed)
            .header("inin-ratelimit-count", used)
            .header("inin-ratelimit-reset", left);
    }
    let body = match (answer.status, answer.definition, route) {
        (_, true, _) => r#"{"code":"bad_request","message":"Invalid script definition"}"#.to_owned(),
        (200, _, Route::Script | Route::Published) => {
            format!(r#"{{"id":"{}","name":"Inbound"}}"#, path.rsplit('/').next().unwrap_or_default())
        }
        (200, _, Route::Pages) => "[]".to_owned(),
        (200, _, Route::Variables) => "{}".to_owned(),
        _ => String::new(),
    };
    Response::from(response.body(body).unwrap())
}
