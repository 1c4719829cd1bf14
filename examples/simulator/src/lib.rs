//! The simulator as a program: a Genesys Cloud on loopback, until Ctrl-C or SIGTERM. Then it tells what it was asked and how
//! it answered, to compare with what a client has counted.
//!
//! `cargo run --release --example simulator -- --listen 127.0.0.1:8085 --knee 80 --fault 503=0.01`

mod tls;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Parser;
use genesys_scripts::simulator::{Fault, ListQuirk, Simulator, SimulatorBuilder, Stats, When};

/// A faithful Genesys Cloud Scripts API on loopback.
#[derive(Parser)]
struct Options {
    /// Where to listen; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:8085")]
    listen: SocketAddr,
    /// Listens on an address that others can reach: all they need is the client secret, and without --tls they see it in clear
    #[arg(long)]
    expose: bool,
    /// Speaks TLS, with a certificate it makes for itself and writes to this file, for a client to trust (the load test's --ca)
    #[arg(long, value_name = "CERTIFICATE.PEM")]
    tls: Option<PathBuf>,
    /// A name or address that others reach it by, for its certificate; localhost and the address it listens on are in it anyway
    #[arg(long = "tls-name", value_name = "NAME", requires = "tls")]
    tls_names: Vec<String>,
    /// Compresses what it answers, for clients that accept gzip
    #[arg(long)]
    gzip: bool,
    /// The secret that any client id logs in with
    #[arg(long, default_value = "simulator")]
    client_secret: String,
    /// Leaves a client with these permissions only; clients not named have them all
    #[arg(long = "permissions", value_name = "CLIENT=PERMISSION,...", value_parser = parse_permissions)]
    permissions: Vec<Permissions>,
    /// How many scripts there are at first
    #[arg(long, default_value_t = 20)]
    scripts: u32,
    /// Decides ids and chances
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long an operation or a login takes
    #[arg(long, default_value_t = 20)]
    latency_ms: u64,
    /// Requests per token and minute; 0 for no limit
    #[arg(long, default_value_t = 300)]
    rate_limit: u32,
    /// Logins per client id and minute; no limit unless said
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    login_rate_limit: u32,
    /// How many seconds a token is good
    #[arg(long, default_value_t = 86_400)]
    token_ttl: u64,
    /// How long an upload stays pending
    #[arg(long, default_value_t = 500)]
    upload_ms: u64,
    /// How long the status of an upload is 404 at first
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    upload_lag_ms: u64,
    /// How long a new script is missing from the lists
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    listing_lag_ms: u64,
    /// How long after a change of a script any further one is 409
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    settling_ms: u64,
    /// Script requests in flight above which some are refused
    #[arg(long)]
    knee: Option<usize>,
    /// How likely a request above the knee is refused
    #[arg(long, default_value_t = 0.4, requires = "knee")]
    knee_failure: f64,
    /// What goes wrong how often, as 503=0.01; login-503=0.01 for the login. Kinds: 500, 400, 403, 502-html, 503, 504,
    /// reset, stall, truncate, not-json, empty, slow, 401, 408, 429. For a script's requests also under a condition only, as
    /// 400=0.4@above=80: always, above=80 (in flight), burst=40/500ms, new-connection, kept-connection, first-of-script,
    /// same-script, script=3, per-address=600, time=3s..6s, node=1/3
    #[arg(long = "fault", value_name = "KIND=PROBABILITY[@WHEN]", value_parser = parse_fault)]
    faults: Vec<PlannedFault>,
    /// A client has one session: each login ends the tokens that it got before
    #[arg(long)]
    one_session: bool,
    /// How every list is odd: clip=25, empty=2, no-hints, repeat=2, circle, null
    #[arg(long = "list-quirk", value_name = "QUIRK", value_parser = parse_quirk)]
    list_quirks: Vec<ListQuirk>,
}

#[derive(Clone, Copy)]
struct PlannedFault {
    fault: Fault,
    probability: f64,
    of: Of,
}

#[derive(Clone, Copy)]
enum Of {
    Operations,
    Logins,
    Scripts(When),
}

fn parse_fault(text: &str) -> Result<PlannedFault, String> {
    let (kind, probability) = text.split_once('=').ok_or("expected KIND=PROBABILITY")?;
    let (probability, when) = probability.split_once('@').map_or((probability, None), |(p, when)| (p, Some(when)));
    let when = when.map(|when| when.parse().map_err(|unknown| format!("{unknown}"))).transpose()?;
    let (kind, of) = match (kind.strip_prefix("login-"), when) {
        (Some(_), Some(_)) => return Err("a login has no condition: login-KIND=PROBABILITY".to_owned()),
        (Some(kind), None) => (kind, Of::Logins),
        (None, Some(when)) => (kind, Of::Scripts(when)),
        (None, None) => (kind, Of::Operations),
    };
    let fault = kind.parse().map_err(|unknown| format!("{unknown}"))?;
    let probability = probability.parse().map_err(|_| "the probability is no number")?;
    Ok(PlannedFault { fault, probability, of })
}

fn parse_quirk(text: &str) -> Result<ListQuirk, String> {
    let (name, number) = text.split_once('=').map_or((text, None), |(name, number)| (name, number.parse().ok()));
    match (name, number) {
        ("clip", Some(scripts)) => Ok(ListQuirk::ClippedTo(scripts)),
        ("empty", Some(page)) => Ok(ListQuirk::EmptyPage(page)),
        ("repeat", Some(page)) => Ok(ListQuirk::RepeatedPage(page)),
        ("no-hints", None) => Ok(ListQuirk::NoHints),
        ("circle", None) => Ok(ListQuirk::Circle),
        ("null", None) => Ok(ListQuirk::NullItem),
        _ => Err("expected clip=SCRIPTS, empty=PAGE, repeat=PAGE, no-hints, circle or null".to_owned()),
    }
}

#[derive(Clone)]
struct Permissions {
    client: String,
    held: Vec<String>,
}

fn parse_permissions(text: &str) -> Result<Permissions, String> {
    let (client, held) = text.split_once('=').ok_or("expected CLIENT=PERMISSION,...")?;
    let held = held.split(',').filter(|permission| !permission.is_empty()).map(str::to_owned).collect();
    Ok(Permissions { client: client.to_owned(), held })
}

/// Does what the command line says.
#[tokio::main]
pub async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    let listen = options.listen;
    if !options.expose && !listen.ip().to_canonical().is_loopback() {
        bail!("others can reach {listen}, and see the secret unless there is --tls: say --expose if they may");
    }
    // With TLS the simulator itself stands behind, where only this machine reaches it.
    let front = match &options.tls {
        Some(file) => {
            Some(tls::Front::listen(listen, file, &options.tls_names).await.map_err(|error| taken(listen, error))?)
        }
        None => None,
    };
    let mut builder = builder(options);
    if let Some(front) = &front {
        builder = builder.listen(SocketAddr::from(([127, 0, 0, 1], 0))).public_url(front.url());
    }
    let simulator = builder.start().await.map_err(|error| taken(listen, error.into()))?;
    if let (Some(front), Some(behind)) = (front, simulator.address()) {
        tokio::spawn(front.serve(behind));
    }

    let asked_to_end = asked_to_end().context("cannot wait for a signal")?;
    tell(&format!("listening on {}", simulator.url()));
    asked_to_end.await;
    tell(&counts(&simulator.stats()));
    Ok(())
}

/// Whoever started it may not want to read it.
fn tell(text: &str) {
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// What came to its end, a line for each kind of request.
fn counts(stats: &Stats) -> String {
    let line = |what: &str, counts: &BTreeMap<String, u64>| {
        let each: Vec<_> = counts.iter().map(|(key, count)| format!("{key}: {count}")).collect();
        let each = if each.is_empty() { String::new() } else { format!(" ({})", each.join(", ")) };
        format!("{what}: {}{each}", counts.values().sum::<u64>())
    };
    let lines = [
        line("script requests", &stats.script_requests),
        line("logins", &stats.logins),
        line("requests by operation, logins apart", &stats.operations),
    ];
    lines.join("\n")
}

fn builder(options: Options) -> SimulatorBuilder {
    let mut builder = Simulator::builder()
        .listen(options.listen)
        .client_secret(options.client_secret)
        .scripts(options.scripts)
        .seed(options.seed)
        .latency(Duration::from_millis(options.latency_ms))
        .rate_limit(options.rate_limit)
        .login_rate_limit(options.login_rate_limit)
        .token_ttl(Duration::from_secs(options.token_ttl))
        .upload_time(Duration::from_millis(options.upload_ms))
        .upload_lag(Duration::from_millis(options.upload_lag_ms))
        .listing_lag(Duration::from_millis(options.listing_lag_ms))
        .settling_time(Duration::from_millis(options.settling_ms));
    if options.gzip {
        builder = builder.gzip();
    }
    if let Some(in_flight) = options.knee {
        builder = builder.knee(in_flight, options.knee_failure);
    }
    for Permissions { client, held } in options.permissions {
        builder = builder.permissions(client, held);
    }
    if options.one_session {
        builder = builder.one_session();
    }
    for PlannedFault { fault, probability, of } in options.faults {
        builder = match of {
            Of::Operations => builder.fault(fault, probability),
            Of::Logins => builder.login_fault(fault, probability),
            Of::Scripts(when) => builder.fault_when(when, fault, probability),
        };
    }
    for quirk in options.list_quirks {
        builder = builder.list_quirk(quirk);
    }
    builder
}

/// With which address it was, and what to do where that is taken.
fn taken(listen: SocketAddr, error: anyhow::Error) -> anyhow::Error {
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    match kind {
        Some(ErrorKind::AddrInUse) => anyhow!(
            "cannot listen on {listen}: something else does already, maybe another simulator; end that, or say --listen with another \
             port ({}:0 takes a free one)",
            match listen.ip() {
                IpAddr::V6(ip) => format!("[{ip}]"),
                IpAddr::V4(ip) => ip.to_string(),
            }
        ),
        Some(ErrorKind::AddrNotAvailable) => anyhow!("cannot listen on {listen}: this machine has no such address"),
        Some(ErrorKind::PermissionDenied) => anyhow!("cannot listen on {listen}, or write: {error:#}"),
        _ => error,
    }
}

/// Listens for signals from now on.
#[cfg(unix)]
fn asked_to_end() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(windows)]
fn asked_to_end() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
    })
}
