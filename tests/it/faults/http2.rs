//! HTTP/2 over TLS, as production hosts speak it: many calls on one connection, which fails for all of them or for one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use genesys_scripts::{
    Agent, CallMeta, ClientBuilder, Credentials, Error, ErrorKind, PublishScript, ReadScript, RetryPolicy,
};
use h2::Reason;
use h2::server::{Connection, SendResponse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

use super::server::{Server, Serving, Shared, right_body};
use super::tls::{AUTHORITY, GOOD_HTTP2};
use super::{ATTEMPT, CALL, Row, Trial, all, code};
use crate::common::id;

/// What a request meets, or its connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meets {
    Answer,
    /// The answer, so much later.
    Late(Duration),
    /// RST_STREAM.
    Reset(Reason),
    ResetInTheBody(Reason),
    /// GOAWAY, and the end of the connection.
    GoAway(Reason),
    /// The answer; then GOAWAY, and no further stream.
    Drain,
    Nothing,
    NothingInTheBody,
    /// The whole connection stands still for so long.
    Freeze(Duration),
    /// The end of the connection, without a word.
    Close,
}

#[derive(Clone, Copy)]
struct Http2 {
    /// So many at once on a connection.
    streams: u32,
    /// A connection ends with a reset.
    resets: bool,
    /// What it says has no frames.
    garbles: bool,
}

const HTTP2: Http2 = Http2 { streams: 100, resets: false, garbles: false };

/// The nth request of all, and of the nth connection, counted from 0.
struct Nth {
    request: usize,
    of_connection: usize,
    connection: usize,
    path: String,
}

type Meeting = Arc<dyn Fn(&Nth) -> Meets + Send + Sync>;

fn https2(server: Http2, meeting: impl Fn(&Nth) -> Meets + Send + Sync + 'static) -> Server {
    let (acceptor, meeting): (_, Meeting) = (GOOD_HTTP2.acceptor(), Arc::new(meeting));
    let serving: Serving = Arc::new(move |stream, shared| {
        let (acceptor, meeting, number) = (acceptor.clone(), Arc::clone(&meeting), shared.connections() - 1);
        Box::pin(async move {
            if server.resets && !shared.is_well() {
                stream.set_zero_linger()?;
            }
            let mut stream = acceptor.accept(stream).await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            if server.garbles && !shared.is_well() {
                shared.got("something");
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await?;
                while stream.read(&mut [0; 1_024]).await? > 0 {}
                return Ok(());
            }
            let connection = h2::server::Builder::new().max_concurrent_streams(server.streams).handshake(stream).await;
            serve(connection.map_err(io::Error::other)?, &shared, number, meeting).await.map_err(io::Error::other)
        })
    });
    Server::new("https://localhost", serving)
}

async fn serve(
    mut connection: Connection<TlsStream<TcpStream>, Bytes>,
    shared: &Shared,
    number: usize,
    meeting: Meeting,
) -> Result<(), h2::Error> {
    let (mut unanswered, mut unended) = (Vec::new(), Vec::new());
    for of_connection in 0.. {
        let Some(accepted) = connection.accept().await else { break };
        let (request, mut answer) = accepted?;
        let head = format!("{} {}", request.method(), request.uri().path());
        let path = request.uri().path().to_owned();
        let is_login = path == "/oauth/token";
        let meets = match (shared.got(&head), shared.is_well()) {
            (_, true) => Meets::Answer,
            (request, false) => meeting(&Nth { request, of_connection, connection: number, path }),
        };
        match meets {
            Meets::Answer => right_answer(&mut answer, is_login)?,
            Meets::Late(by) => {
                tokio::spawn(async move {
                    sleep(by).await;
                    let _ = right_answer(&mut answer, is_login);
                });
            }
            Meets::Reset(reason) => answer.send_reset(reason),
            Meets::ResetInTheBody(reason) => begun(&mut answer)?.send_reset(reason),
            Meets::GoAway(reason) => connection.abrupt_shutdown(reason),
            Meets::Drain => {
                right_answer(&mut answer, is_login)?;
                connection.graceful_shutdown();
            }
            Meets::Nothing => unanswered.push(answer),
            Meets::NothingInTheBody => unended.push(begun(&mut answer)?),
            Meets::Freeze(time) => sleep(time).await,
            Meets::Close => return Ok(()),
        }
    }
    Ok(())
}

fn right_answer(answer: &mut SendResponse<Bytes>, is_login: bool) -> Result<(), h2::Error> {
    answer.send_response(http::Response::new(()), false)?.send_data(right_body(is_login).into(), true)
}

fn begun(answer: &mut SendResponse<Bytes>) -> Result<h2::SendStream<Bytes>, h2::Error> {
    let mut body = answer.send_response(http::Response::new(()), false)?;
    body.send_data("{".into(), false)?;
    Ok(body)
}

fn trusting(builder: ClientBuilder) -> ClientBuilder {
    builder.root_certificate_pem(AUTHORITY.pem.clone())
}

fn row(what: &'static str, kind: ErrorKind) -> Row {
    Row { configure: trusting, ..Row::new(what, kind) }
}

#[tokio::test]
async fn a_stream_or_a_connection_that_ends_is_another_attempt_of_what_may_be_repeated() {
    let broken = |what| row(what, ErrorKind::Connection).passing();
    let always = |row, meets| (row, HTTP2, meets);
    let rows = [
        always(broken("a stream that is refused").never_sent(), Meets::Reset(Reason::REFUSED_STREAM)),
        always(broken("a stream that fails"), Meets::Reset(Reason::INTERNAL_ERROR)),
        always(broken("a stream that is cancelled"), Meets::Reset(Reason::CANCEL)),
        always(broken("a stream that is too much"), Meets::Reset(Reason::ENHANCE_YOUR_CALM)),
        always(broken("a stream that fails in the body"), Meets::ResetInTheBody(Reason::INTERNAL_ERROR)),
        always(broken("a stream that is cancelled in the body"), Meets::ResetInTheBody(Reason::CANCEL)),
        always(broken("a connection that goes away"), Meets::GoAway(Reason::NO_ERROR)),
        always(broken("a connection that fails"), Meets::GoAway(Reason::INTERNAL_ERROR)),
        always(broken("a connection that is too much"), Meets::GoAway(Reason::ENHANCE_YOUR_CALM)),
        always(broken("a connection that is closed"), Meets::Close),
        (broken("a connection that is reset"), Http2 { resets: true, ..HTTP2 }, Meets::Close),
        always(row("a stream that is silent", ErrorKind::Timeout).silent(), Meets::Nothing),
        always(
            row("a stream that is silent in the body", ErrorKind::Timeout).silent().status(200),
            Meets::NothingInTheBody,
        ),
        (row("no frames", ErrorKind::UnexpectedAnswer), Http2 { garbles: true, ..HTTP2 }, Meets::Nothing),
    ];
    all(rows.map(|(row, server, meets)| (row, move || https2(server, move |_| meets)))).await;
}

/// What a connection says to its first request, before it ends: SETTINGS, and GOAWAY, which says that it has acted on none.
const ACTED_ON_NONE: [u8; 26] = *b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Reads until a frame of this type has come: its length, its type, the rest.
async fn until_a_frame(stream: &mut (impl AsyncReadExt + Unpin), wanted: u8) -> io::Result<()> {
    stream.read_exact(&mut [0; 24]).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await?;
        if head[3] == wanted {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn what_a_connection_that_goes_away_has_not_acted_on_is_sent_again_a_code_too() {
    let acceptor = GOOD_HTTP2.acceptor();
    let goes_away: Serving = Arc::new(move |stream, shared| {
        let (acceptor, number) = (acceptor.clone(), shared.connections());
        Box::pin(async move {
            let mut stream = acceptor.accept(stream).await?;
            if number == 1 {
                const HEADERS: u8 = 1;
                until_a_frame(&mut stream, HEADERS).await?;
                stream.write_all(&ACTED_ON_NONE).await?;
                while stream.read(&mut [0; 1_024]).await? > 0 {}
                return Ok(());
            }
            let connection = h2::server::handshake(stream).await.map_err(io::Error::other)?;
            serve(connection, &shared, number, Arc::new(|_| Meets::Answer)).await.map_err(io::Error::other)
        })
    });
    let trial = Trial::new(Server::well(), Server::new("https://localhost", goes_away), trusting);
    let agent = trial.client.agent(code());
    agent.log_in().await.unwrap();
    assert_eq!((trial.login.connections(), trial.client.stats().login_attempts), (2, 2));
    drop(agent);
    trial.ends("acted on none").await;
}

#[tokio::test]
async fn times_that_never_end_are_taken() {
    let trial = Trial::new(https2(HTTP2, |_| Meets::Answer), Server::well(), |builder| {
        trusting(builder).pool_idle_timeout(Duration::MAX).http2_ping(Duration::MAX, Duration::MAX)
    });
    let agent = trial.client.agent(Credentials::access_token("t0ken"));
    for _ in 0..2 {
        agent.script(&id()).await.unwrap();
    }
    assert_eq!((trial.api.connections(), trial.client.stats().retries), (1, 0));
    drop(agent);
    trial.ends("never end").await;
}

/// As many at once as there are.
fn crowded(builder: ClientBuilder) -> ClientBuilder {
    trusting(builder).max_in_flight(1_000).attempt_timeout(ATTEMPT)
}

/// Forty agents of one client, which has a connection.
async fn forty(api: Server) -> (Trial, Vec<Agent>) {
    forty_who_wait(api, ATTEMPT).await
}

/// For an attempt, so long.
async fn forty_who_wait(api: Server, attempt: Duration) -> (Trial, Vec<Agent>) {
    let trial = Trial::new(api, Server::well(), |builder| {
        crowded(builder).attempt_timeout(attempt).call_timeout(CALL.max(3 * attempt))
    });
    let agents: Vec<_> = (0..40).map(|_| trial.client.agent(Credentials::access_token("t0ken"))).collect();
    agents[0].script(&id()).await.unwrap();
    assert_eq!(trial.api.connections(), 1);
    (trial, agents)
}

/// All of them read, and publish where told.
async fn read_and_publish(agents: &[Agent], publishing: usize) {
    let (id, options) = (id(), PublishScript::default());
    let reads = join_all(agents.iter().map(|agent| agent.script(&id)));
    let publishes = join_all(agents[..publishing].iter().map(|agent| agent.publish(&id, &options)));
    let (reads, publishes) = join(reads, publishes).await;
    for (nth, done) in reads.into_iter().chain(publishes).enumerate() {
        assert!(done.is_ok(), "{nth}: {}", done.unwrap_err());
    }
}

fn publishes(trial: &Trial) -> usize {
    trial.api.heads().iter().filter(|head| head.starts_with("POST")).count()
}

#[tokio::test]
async fn http2_is_spoken_where_the_host_offers_it() {
    let (trial, agents) = forty(https2(HTTP2, |_| Meets::Late(Duration::from_millis(5)))).await;
    read_and_publish(&agents, 40).await;
    // All reads share one; each publication has one of its own.
    assert_eq!((trial.api.connections(), trial.client.stats().retries), (41, 0));
    drop(agents);
    trial.ends("h2").await;
}

#[tokio::test]
async fn at_nine_all_go_over_one_connection_to_each_host_from_the_first_call_on() {
    let https2 = || https2(HTTP2, |_| Meets::Late(Duration::from_millis(5)));
    let trial = Trial::new(https2(), https2(), crowded);
    let agents: Vec<_> =
        (0..150).map(|n| trial.client.agent(Credentials::client(format!("client-{n}"), "s3cret"))).collect();
    read_and_publish(&agents, 0).await;
    assert_eq!((trial.login.connections(), trial.api.connections()), (1, 1));
    assert_eq!((trial.api.requests(), trial.client.stats().retries), (150, 0));
    drop(agents);
    trial.ends("nine o'clock").await;
}

#[tokio::test]
async fn logins_that_may_not_be_repeated_share_a_connection_where_its_end_says_what_was_acted_on() {
    let trial = Trial::new(Server::well(), https2(HTTP2, |_| Meets::Late(Duration::from_millis(5))), crowded);
    let agents: Vec<_> = (0..40).map(|_| trial.client.agent(code())).collect();
    for log_in in join_all(agents.iter().map(Agent::log_in)).await {
        log_in.unwrap();
    }
    assert_eq!((trial.login.connections(), trial.client.stats().login_attempts), (1, 40));
    drop(agents);
    trial.ends("codes").await;
}

#[tokio::test]
async fn a_limit_of_one_stream_is_kept_and_everyone_served_on_the_one_connection() {
    let (trial, agents) = forty(https2(Http2 { streams: 1, ..HTTP2 }, |_| Meets::Late(Duration::from_millis(2)))).await;
    read_and_publish(&agents, 0).await;
    assert_eq!((trial.api.connections(), trial.client.stats().retries), (1, 0));
    trial.is_at_rest("one stream");
    drop(agents);
    trial.ends("one stream").await;
}

#[tokio::test]
async fn an_operation_that_hangs_takes_no_streams_from_the_others() {
    let pages_hang = |nth: &Nth| if nth.path.ends_with("/pages") { Meets::Nothing } else { Meets::Answer };
    let (trial, agents) = forty(https2(HTTP2, pages_hang)).await;
    let mut hanging = JoinSet::new();
    for _ in 0..250 {
        let agent = trial.client.agent(Credentials::access_token("t0ken"));
        hanging.spawn(async move { agent.script_pages(&id(), &ReadScript::default()).await.map(drop) });
    }
    let all_are_on_their_way = async {
        while trial.client.stats().api.in_flight < 250 || trial.api.requests() <= 100 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(ATTEMPT, all_are_on_their_way).await.unwrap();
    read_and_publish(&agents[..20], 0).await;
    assert_eq!(trial.client.stats().retries, 0, "each was served by one attempt");
    assert_eq!(trial.api.connections(), 3);
    hanging.shutdown().await;
    trial.is_at_rest("hanging");
    drop(agents);
    trial.ends("hanging").await;
}

#[tokio::test]
async fn a_host_that_drains_its_connections_loses_nobodys_call() {
    // After its tenth request a connection takes no further ones.
    let meeting = |nth: &Nth| if nth.of_connection == 9 { Meets::Drain } else { Meets::Late(Duration::from_millis(5)) };
    let (trial, agents) = forty(https2(HTTP2, meeting)).await;
    for _ in 0..3 {
        read_and_publish(&agents, 20).await;
    }
    assert_eq!(publishes(&trial), 60, "each is acted on once");
    assert!(trial.api.connections() > 1);
    trial.api.open_no_more_than(1).await;
    trial.is_at_rest("drained");
    drop(agents);
    trial.ends("drained").await;
}

#[tokio::test]
async fn a_connection_that_ends_in_the_middle_is_another_attempt_for_all_on_it() {
    for end in [
        Meets::GoAway(Reason::NO_ERROR),
        Meets::GoAway(Reason::INTERNAL_ERROR),
        Meets::GoAway(Reason::ENHANCE_YOUR_CALM),
        Meets::Close,
    ] {
        // The first connection, with thirty on it.
        let meeting = move |nth: &Nth| match (nth.connection, nth.of_connection) {
            (0, 0) => Meets::Answer,
            (0, 30) => end,
            (0, _) => Meets::Nothing,
            _ => Meets::Answer,
        };
        let (trial, agents) = forty(https2(HTTP2, meeting)).await;
        read_and_publish(&agents, 0).await;
        assert!(trial.client.stats().retries <= 40, "{end:?}: {:?}", trial.client.stats());
        trial.api.open_no_more_than(1).await;
        trial.is_at_rest("gone in the middle");
        drop(agents);
        trial.ends("gone in the middle").await;
    }
}

#[tokio::test]
async fn streams_that_are_refused_are_asked_again_publishes_too_and_acted_on_once() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let meeting = move |nth: &Nth| match nth.request % 3 {
        1 => {
            count.fetch_add(1, Ordering::SeqCst);
            Meets::Reset(Reason::REFUSED_STREAM)
        }
        _ => Meets::Answer,
    };
    // Whose turn it is is chance: one of eighty may well be the third eight times.
    let mut retry = RetryPolicy::default().with_attempts(100);
    retry.max_backoff = Duration::ZERO;
    let trial = Trial::new(https2(HTTP2, meeting), Server::well(), |builder| crowded(builder).retry(retry));
    let agents: Vec<_> = (0..40).map(|_| trial.client.agent(Credentials::access_token("t0ken"))).collect();
    read_and_publish(&agents, 40).await;
    let refused = refused.load(Ordering::SeqCst);
    assert!(refused > 20);
    assert_eq!(trial.api.requests() - refused, 80);
    drop(agents);
    trial.ends("refused").await;
}

/// No load takes as long: it passes on tokio's clock alone.
const LONG: Duration = Duration::from_secs(300);

/// So much time, at once.
async fn passes(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Forty who were served on a connection, and call once more, as it falls silent; their attempts' time passes. Each call
/// tells how many attempts it took.
async fn forty_on_a_silent_connection(
    silence: Meets,
    later: impl Fn(&Nth) -> Meets + Send + Sync + 'static,
) -> (Trial, Vec<Agent>, JoinSet<Result<u32, Error>>) {
    let falls_silent = Arc::new(AtomicBool::new(false));
    let fell = Arc::clone(&falls_silent);
    let meeting = move |nth: &Nth| match nth.connection {
        0 if fell.load(Ordering::SeqCst) => silence,
        0 => Meets::Answer,
        _ => later(nth),
    };
    let (trial, agents) = forty_who_wait(https2(HTTP2, meeting), LONG).await;
    read_and_publish(&agents, 0).await;
    falls_silent.store(true, Ordering::SeqCst);
    let mut calls = JoinSet::new();
    for agent in agents.clone() {
        let meta = CallMeta::default();
        calls.spawn(async move { agent.with_meta(&meta).script(&id()).await.map(|_| meta.attempts()) });
    }
    let all_are_on_it = async {
        while trial.client.stats().api.in_flight < agents.len() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(ATTEMPT, all_are_on_it).await.unwrap();
    passes(LONG).await;
    (trial, agents, calls)
}

/// Nobody is out for longer than that one attempt: the next one is answered, on another connection, one for all.
async fn nobody_is_out_for_long(silence: Meets) {
    let (trial, agents, calls) = forty_on_a_silent_connection(silence, |_| Meets::Answer).await;
    for attempts in calls.join_all().await {
        assert_eq!(attempts.unwrap(), 2, "{silence:?}");
    }
    // And whoever comes next has nothing of it.
    read_and_publish(&agents, 0).await;
    assert_eq!((trial.api.connections(), trial.client.stats().retries), (2, 40), "{silence:?}");
    assert!(trial.client.stats().api.down.is_empty(), "{silence:?}");
    // One that stands still notices only now that it was left.
    passes(STANDS_STILL).await;
    trial.api.open_no_more_than(1).await;
    trial.is_at_rest("silent");
    drop(agents);
    trial.ends("silent").await;
}

#[tokio::test]
async fn who_goes_first_on_a_new_connection_and_is_not_answered_holds_nobody_else() {
    let first_is_not_answered = |nth: &Nth| match (nth.connection, nth.of_connection) {
        (1, 0) => Meets::Nothing,
        _ => Meets::Answer,
    };
    let (trial, agents, mut calls) = forty_on_a_silent_connection(Meets::Nothing, first_is_not_answered).await;
    for _ in 1..agents.len() {
        assert_eq!(calls.join_next().await.unwrap().unwrap().unwrap(), 2);
    }
    assert_eq!(trial.api.connections(), 2);
    passes(LONG).await;
    assert_eq!(calls.join_next().await.unwrap().unwrap().unwrap(), 3);
    trial.is_at_rest("the first");
    drop(agents);
    trial.ends("the first").await;
}

const STANDS_STILL: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_connection_that_goes_silent_keeps_nobody_out_for_long() {
    nobody_is_out_for_long(Meets::Nothing).await;
}

#[tokio::test]
async fn a_connection_that_goes_silent_in_the_bodies_keeps_nobody_out_for_long() {
    nobody_is_out_for_long(Meets::NothingInTheBody).await;
}

#[tokio::test]
async fn a_connection_that_stands_still_keeps_nobody_out_for_long() {
    nobody_is_out_for_long(Meets::Freeze(STANDS_STILL)).await;
}
