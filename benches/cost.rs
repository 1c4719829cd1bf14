//! What a call costs over the same call on bare reqwest with the same decoding: instructions, allocations,
//! throughput, and the memory of an idle agent. `cargo bench --bench cost` prints a table, and fails where a figure is
//! over its budget; it needs valgrind. See `benches/README.md`.

// It measures real time.
#![allow(clippy::disallowed_methods, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use genesys_scripts::{Client, Credentials, Region, Script, ScriptId};
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next};
use tokio::runtime;

const ID: &str = "476c2b71-7429-11e4-9a5b-3f91746bffa3";
/// A script of 1.3 MB.
const LARGE: &str = "8d0f1c5e-5b7a-4a8c-9a53-3f91746bffa3";
const WARM_UP: usize = 50;

/// At most so many times the instructions of bare reqwest.
const INSTRUCTIONS: f64 = 1.03;
/// At most so many instructions a call for metrics and traces that are compiled in, and that nobody listens to.
const OFF: i64 = 400;
/// At least so many times the calls per second of bare reqwest, 64 and 512 at once.
const THROUGHPUT: f64 = 0.95;
/// At most so many allocations a call more than bare reqwest.
const ALLOCATIONS: f64 = 0.0;
/// At most so many bytes of heap for an agent that is logged in and does nothing.
const AGENT_BYTES: u64 = 1024;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // Bare reqwest wants a crypto provider of the process, even where all is http.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    match arguments[..] {
        ["serve"] => runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve()),
        ["over-bare", url] => {
            println!("{}", over_bare(url)?);
            Ok(())
        }
        ["calls", kind, url, count] => current_thread()?.block_on(calls(Kind::named(kind)?, url, count.parse()?)),
        [] => report(),
        _ => bail!("cost takes no arguments"),
    }
}

fn current_thread() -> Result<runtime::Runtime> {
    Ok(runtime::Builder::new_current_thread().enable_all().build()?)
}

/// A script of 1.6 KB and one of 1.3 MB, and a quota that never runs out, so that everything there is to keep is kept.
async fn serve() -> Result<()> {
    let [small, large] = [2, 2000].map(|pages| Bytes::from(script_json(pages)));
    let headers = [
        ("inin-ratelimit-allowed", "1000000000"),
        ("inin-ratelimit-count", "1"),
        ("inin-ratelimit-reset", "60"),
        ("inin-correlation-id", "0f7a9d5e-5f6e-4c0e-9d2e-6f1d1d6c9b11"),
    ];
    let script = move |Path(id): Path<String>| {
        let body = if id == LARGE { large.clone() } else { small.clone() };
        async move { (headers, [(CONTENT_TYPE, "application/json")], body) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    let router = axum::Router::new().route("/api/v2/scripts/{id}", get(script));
    Ok(axum::serve(listener, router).await?)
}

fn script_json(pages: usize) -> String {
    let page = serde_json::json!({
        "id": "2b9a8a4e-8d5f-4b5e-a6a5-0c2d3f4e5a6b", "name": "Greeting", "versionId": "v1",
        "createdDate": "2025-02-04T16:38:38.380Z", "modifiedDate": "2025-02-04T16:38:38Z",
        "rootContainer": {"type": "verticalStackContainer", "properties": {"margin": {"typeName": "margin", "value": [5, 5, 5, 5]},
            "width": {"typeName": "sizing", "value": {"sizeType": "stretch"}}}, "children": [
            {"type": "text", "properties": {"text": {"typeName": "interpolatedText", "value": "Hello {{Outbound.First Name}}, how can I help?"}}}]},
        "properties": {"backgroundColor": {"typeName": "color", "value": "FFFFFF"}},
    });
    serde_json::json!({
        "id": ID, "name": "Inbound sales", "division": {"id": "d", "name": "Home", "selfUri": "/api/v2/authorization/divisions/d"},
        "versionId": "1f0c5c07-3d3f-4a51-9a8a-3b2e8c1f7d55", "createdDate": "2025-02-04T16:38:38.380Z",
        "modifiedDate": "2025-02-04T16:38:38.380Z", "publishedDate": "2025-02-04T16:38:38.380Z",
        "startPageId": "2b9a8a4e-8d5f-4b5e-a6a5-0c2d3f4e5a6b", "startPageName": "Greeting",
        "features": {"dialer": {"properties": {"enabled": {"typeName": "boolean", "value": false}}},
            "scripter": {"properties": {"enabled": {"typeName": "boolean", "value": true}}}},
        "variables": [{"id": "v", "name": "greeting", "type": {"name": "string", "isDynamic": false}, "value": "Hello", "input": true, "output": false}],
        "customActions": [], "pages": vec![page; pages], "selfUri": format!("/api/v2/scripts/{ID}"),
    })
    .to_string()
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Bare,
    Crate,
}

impl Kind {
    fn named(name: &str) -> Result<Self> {
        match name {
            "bare" => Ok(Self::Bare),
            "crate" => Ok(Self::Crate),
            _ => bail!("bare or crate"),
        }
    }
}

/// The two ways to get a script, set up alike.
#[derive(Clone)]
enum Caller {
    Bare { http: reqwest::Client, url: String },
    Crate { agent: Box<genesys_scripts::Agent>, id: ScriptId },
}

impl Caller {
    fn new(kind: Kind, url: &str, id: &str) -> Result<Self> {
        Ok(match kind {
            Kind::Bare => Self::Bare {
                http: reqwest::Client::builder().no_proxy().user_agent("bare").build()?,
                url: format!("{url}/api/v2/scripts/{id}"),
            },
            Kind::Crate => {
                let client = Client::builder(Region::custom(url, url, url)?).build()?;
                Self::Crate { agent: Box::new(client.agent(Credentials::access_token("token"))), id: id.parse()? }
            }
        })
    }

    async fn call(&self) -> Result<Script> {
        match self {
            Self::Bare { http, url } => {
                let response = http
                    .get(url)
                    .header("accept", "application/json")
                    .bearer_auth("token")
                    .send()
                    .await?
                    .error_for_status()?;
                Ok(serde_json::from_slice(&response.bytes().await?)?)
            }
            Self::Crate { agent, id } => Ok(agent.script(id).await?),
        }
    }
}

async fn calls(kind: Kind, url: &str, count: usize) -> Result<()> {
    let caller = Caller::new(kind, url, ID)?;
    for _ in 0..count {
        caller.call().await?;
    }
    Ok(())
}

fn report() -> Result<()> {
    let server = Server::start()?;
    let mut table = Table::default();
    println!("one agent.script call, everything on, against the same call on bare reqwest with the same decoding\n");
    println!("{:<30} {:>10}  {:>10}", "", "bare", "crate");

    let [bare, ours] = [instructions(Kind::Bare, &server.url, "")?, instructions(Kind::Crate, &server.url, "")?];
    let ratio = ours as f64 / bare as f64;
    table.row("instructions a call", bare as f64, ours as f64, format!("{ratio:.3} x"));
    table.bound("instructions_ratio", ratio, ratio <= INSTRUCTIONS);

    let [out, off] = [over_bare_compiled_out(&server.url)?, over_bare(&server.url)?];
    table.row("  metrics, traces: out, off", out as f64, off as f64, format!("{:+}", off - out));
    table.bound("instructions_off", (off - out) as f64, off - out <= OFF);

    let [bare, ours] = [allocations(Kind::Bare, &server.url)?, allocations(Kind::Crate, &server.url)?];
    table.row("allocations a call", bare, ours, format!("{:+.1}", ours - bare));
    table.bound("allocations_over", ours - bare, (ours - bare).round() <= ALLOCATIONS);

    for concurrent in [1, 64, 512] {
        let Throughput { bare, ours, ratio } = throughput(&server.url, ID, concurrent)?;
        table.row(&format!("calls/s, {concurrent} concurrent"), bare, ours, format!("{ratio:.3} x"));
        // One at a time is for information: it measures the round trip of a loopback socket.
        table.bound(&format!("throughput_ratio_{concurrent}"), ratio, concurrent == 1 || ratio >= THROUGHPUT);
    }

    // For information, as one at a time is.
    let Throughput { bare, ours, ratio } = throughput(&server.url, LARGE, 8)?;
    table.row("calls/s, of 1.3 MB, 8 at once", bare, ours, format!("{ratio:.3} x"));
    let [bare, ours] = [peak(Kind::Bare, &server.url)?, peak(Kind::Crate, &server.url)?];
    table.row("peak KiB of heap, of 1.3 MB", bare, ours, format!("{:+.0}", ours - bare));

    let (heap, resident) = memory()?;
    table.row("bytes an idle agent", 0.0, heap as f64, format!("{resident} resident"));
    table.bound("bytes_per_agent", heap as f64, heap <= AGENT_BYTES);
    table.close()
}

/// The rows as they are printed, the figures as they are written, and those that are over their budget.
#[derive(Default)]
struct Table {
    figures: serde_json::Map<String, serde_json::Value>,
    over: Vec<String>,
}

impl Table {
    fn row(&self, what: &str, bare: f64, ours: f64, compared: String) {
        println!("{what:<30} {bare:>10.0}  {ours:>10.0}  {compared}");
    }

    fn bound(&mut self, figure: &str, value: f64, kept: bool) {
        self.figures.insert(figure.to_owned(), value.into());
        if !kept {
            self.over.push(format!("{figure} {value:.3}"));
        }
    }

    fn close(self) -> Result<()> {
        let directory = PathBuf::from(option_env!("CARGO_TARGET_TMPDIR").unwrap_or("."));
        std::fs::create_dir_all(&directory)?;
        let path = directory.join("cost.json");
        let figures = serde_json::Value::Object(self.figures);
        std::fs::write(&path, format!("{figures:#}\n")).with_context(|| path.display().to_string())?;
        println!("\nwritten to {}", path.display());
        if !self.over.is_empty() {
            bail!("over budget: {}", self.over.join(", "));
        }
        Ok(())
    }
}

/// The server, in a process of its own, so that nothing of it is counted.
struct Server {
    process: std::process::Child,
    url: String,
}

impl Server {
    fn start() -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?).arg("serve").stdout(Stdio::piped()).spawn()?;
        let mut url = String::new();
        BufReader::new(process.stdout.take().context("no stdout")?).read_line(&mut url)?;
        Ok(Self { process, url: url.trim().to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two runs under callgrind; what they differ in is the calls alone.
fn instructions(kind: Kind, url: &str, tunables: &str) -> Result<u64> {
    let run = |count: usize| -> Result<u64> {
        let name = if matches!(kind, Kind::Bare) { "bare" } else { "crate" };
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe()?)
            .args(["calls", name, url, &count.to_string()])
            .env("GLIBC_TUNABLES", tunables)
            .output()
            .context("valgrind, which counts the instructions, cannot be run: apt-get install valgrind")?;
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find_map(|line| line.split_once("Collected : ")).ok_or_else(|| anyhow!("{text}"))?;
        Ok(line.1.trim().parse()?)
    };
    const MORE: usize = 500;
    Ok((run(WARM_UP + MORE)? - run(WARM_UP)?) / MORE as u64)
}

/// So many more than bare reqwest, counted so that two builds can be compared: glibc's allocator is kept from tidying up, which it
/// does more or less often as the heap happens to lie.
fn over_bare(url: &str) -> Result<i64> {
    let count = |kind| instructions(kind, url, "glibc.malloc.tcache_max=1048576:glibc.malloc.tcache_count=127");
    Ok(i64::try_from(count(Kind::Crate)?)? - i64::try_from(count(Kind::Bare)?)?)
}

/// The same of this bench as `benches/without` builds it.
fn over_bare_compiled_out(url: &str) -> Result<i64> {
    let output = Command::new(env!("CARGO"))
        // Else what depends on it is built anew each time.
        .env_remove("CARGO_MANIFEST_DIR")
        .args(["run", "--quiet", "--profile=bench", "--package=genesys-cost-without", "--features=silent", "--"])
        .args(["over-bare", url])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("genesys-cost-without said {text:?}"))
}

fn allocations(kind: Kind, url: &str) -> Result<f64> {
    const CALLS: usize = 500;
    let runtime = current_thread()?;
    let caller = Caller::new(kind, url, ID)?;
    let run = |count: usize| {
        runtime.block_on(async {
            for _ in 0..count {
                caller.call().await?;
            }
            Ok::<_, anyhow::Error>(())
        })
    };
    run(WARM_UP)?;
    let mut result = Ok(());
    let counted = allocation_counter::measure(|| result = run(CALLS));
    result?;
    Ok(counted.count_total as f64 / CALLS as f64)
}

/// The most heap that one call for the large script holds at a time, in KiB.
fn peak(kind: Kind, url: &str) -> Result<f64> {
    let runtime = current_thread()?;
    let caller = Caller::new(kind, url, LARGE)?;
    runtime.block_on(caller.call())?;
    let mut result = Ok(());
    let counted = allocation_counter::measure(|| result = runtime.block_on(caller.call()).map(drop));
    result?;
    Ok(counted.bytes_max as f64 / 1024.0)
}

struct Throughput {
    bare: f64,
    ours: f64,
    ratio: f64,
}

/// Rounds of the two in turn, in one process: what the machine does meanwhile meets both.
fn throughput(url: &str, id: &str, concurrent: usize) -> Result<Throughput> {
    const ROUNDS: usize = 21;
    const ROUND: Duration = Duration::from_millis(150);
    let runtime = current_thread()?;
    runtime.block_on(async {
        let callers = [Caller::new(Kind::Bare, url, id)?, Caller::new(Kind::Crate, url, id)?];
        let mut rates = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (caller, rates) in callers.iter().zip(&mut rates) {
                let rate = rate(caller, concurrent, ROUND).await?;
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
        let ratios = rates[0].iter().zip(&rates[1]).map(|(bare, ours)| ours / bare).collect();
        let [bare, ours] = rates;
        Ok(Throughput { bare: median(bare), ours: median(ours), ratio: median(ratios) })
    })
}

async fn rate(caller: &Caller, concurrent: usize, time: Duration) -> Result<f64> {
    let started = Instant::now();
    let worker = || async {
        let mut calls = 0u32;
        while started.elapsed() < time {
            caller.call().await?;
            calls += 1;
        }
        Ok::<_, anyhow::Error>(calls)
    };
    let calls = futures_util::future::try_join_all((0..concurrent).map(|_| worker())).await?;
    Ok(f64::from(calls.into_iter().sum::<u32>()) / started.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Heap and resident bytes of an agent that has logged in and made a call, of 100,000.
fn memory() -> Result<(u64, u64)> {
    const AGENTS: u64 = 100_000;
    const HERE: &str = "http://127.0.0.1:9";
    let runtime = current_thread()?;
    let client = Client::builder(Region::custom(HERE, HERE, HERE)?).with_middleware(Canned).build()?;
    let id: ScriptId = ID.parse()?;
    let log_in = |count: u64| {
        runtime.block_on(async {
            let mut agents = Vec::with_capacity(count as usize);
            for n in 0..count {
                let agent = client.agent(Credentials::client(format!("client-{n:032}"), format!("secret-{n:036}")));
                agent.script(&id).await?;
                agents.push(agent);
            }
            Ok::<_, anyhow::Error>(agents)
        })
    };
    drop(log_in(100)?);
    let mut agents = Ok(Vec::new());
    let before = resident()?;
    let counted = allocation_counter::measure(|| agents = log_in(AGENTS));
    let resident = resident()?.saturating_sub(before) / AGENTS;
    let agents = agents?;
    let heap = u64::try_from(counted.bytes_current)?.div_ceil(agents.len() as u64);
    Ok((heap, resident))
}

fn resident() -> Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    Ok(statm.split_whitespace().nth(1).context("statm")?.parse::<u64>()? * 4096)
}

/// Answers without a socket: no connection is to be counted.
struct Canned;

#[async_trait]
impl Middleware for Canned {
    async fn handle(
        &self,
        request: Request,
        _: &mut http::Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let body = if request.url().path() == "/oauth/token" {
            let token = "t".repeat(86);
            format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":86400}}"#)
        } else {
            script_json(2)
        };
        let response = http::Response::builder()
            .header("inin-ratelimit-allowed", "300")
            .header("inin-ratelimit-count", "1")
            .header("inin-ratelimit-reset", "60");
        Ok(Response::from(response.body(body).map_err(|error| reqwest_middleware::Error::Middleware(error.into()))?))
    }
}
