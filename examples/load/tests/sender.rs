//! How the naive mode sends: over TLS, by HTTP/1.1, through proxies, and what it tells where no answer comes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

const ID: &str = "1f2e3d4c-0000-4000-8000-000000000001";
/// Nobody's, so that whoever reaches it goes through the proxy.
const NAME: &str = "scripts.example";
const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// A certificate of its own making, in a file.
struct Identity {
    pem: PathBuf,
    made: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Identity {
    fn new(name: &str) -> Self {
        let names = [NAME, "localhost", "127.0.0.1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let pem = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sender-{name}-{}.pem", std::process::id()));
        std::fs::write(&pem, made.cert.pem()).unwrap();
        Self { pem, made }
    }

    fn acceptor(&self, speaks: &[&[u8]]) -> TlsAcceptor {
        let key = PrivateKeyDer::Pkcs8(self.made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let certificates = vec![self.made.cert.der().clone()];
        let mut config = config.with_no_client_auth().with_single_cert(certificates, key).unwrap();
        config.alpn_protocols = speaks.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.pem);
    }
}

/// What was asked of a service: the version, the path and what came with it.
type Asked = Arc<Mutex<Vec<(Version, String, String)>>>;

/// Tokens and scripts over TLS.
async fn service(identity: &Identity, speaks: &[&[u8]]) -> (u16, Asked) {
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    (serve(identity, speaks, move |request| answer(request, Arc::clone(&noted))).await, asked)
}

/// These answers over TLS; over HTTP/2 no more than ten at once of a connection.
async fn serve<A, F>(identity: &Identity, speaks: &[&[u8]], answers: A) -> u16
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = identity.acceptor(speaks);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answers) = (acceptor.clone(), service_fn(answers.clone()));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let http2 = stream.get_ref().1.alpn_protocol() == Some(H2);
                let stream = TokioIo::new(stream);
                if http2 {
                    let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.max_concurrent_streams(10).serve_connection(stream, answers).await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, answers).await;
                }
            });
        }
    });
    port
}

async fn answer(request: Request<Incoming>, asked: Asked) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let came = format!("{} {}", header(ACCEPT), header(AUTHORIZATION));
    let (version, path) = (request.version(), request.uri().path().to_owned());
    let form = request.into_body().collect().await.unwrap().to_bytes();
    let good = path.ends_with(ID) || form == "grant_type=client_credentials";
    asked.lock().unwrap().push((version, path, came));
    let body = r#"{"access_token":"a-token","id":"of a script"}"#;
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = if good { StatusCode::OK } else { StatusCode::NOT_FOUND };
    Ok(answer)
}

/// The naive run's numbers, and all that was said.
async fn naive(url: &str, args: &[&str], environment: &[(&str, &str)]) -> (Value, String) {
    let (mut report, said) = load(url, &[&["--mode", "naive"], args].concat(), environment).await;
    (report["runs"][0].take(), said)
}

/// The report, and all that was said.
async fn load(url: &str, args: &[&str], environment: &[(&str, &str)]) -> (Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genesys-load"));
    command.args(["--json", "-", "--script-id", ID, "--api-url", url]).args(args);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command.env("GENESYSCLOUD_OAUTHCLIENT_ID", "load-test").env("GENESYSCLOUD_OAUTHCLIENT_SECRET", "s3cret");
    for variable in ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(variable);
    }
    // Proxies that do not exist.
    command.env("HTTP_PROXY", "http://127.0.0.1:9").env("HTTPS_PROXY", "http://127.0.0.1:9");
    command.envs(environment.iter().copied());
    let output = command.output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked") && !said.contains("s3cret"), "{said}");
    (serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}")), said)
}

#[tokio::test]
async fn over_tls_it_speaks_http_1_whatever_is_offered_and_reaches_this_machine_without_a_proxy() {
    let identity = Identity::new("versions");
    let ca = identity.pem.to_str().unwrap();
    for speaks in [&[H2, HTTP1][..], &[HTTP1, H2], &[HTTP1], &[]] {
        let (port, asked) = service(&identity, speaks).await;
        for host in ["localhost", "127.0.0.1"] {
            let url = format!("https://{host}:{port}");
            let (run, said) = naive(&url, &["--ca", ca, "--agents", "3", "--iterations", "2"], &[]).await;
            assert_eq!((&run["served"], &run["login_attempts"]), (&6.into(), &3.into()), "{url} {said}");
            for (spoken, path, came) in asked.lock().unwrap().drain(..) {
                assert_eq!(spoken, Version::HTTP_11, "{path}");
                let bears = if path == "/oauth/token" { "Basic bG9hZC10ZXN0OnMzY3JldA==" } else { "Bearer a-token" };
                assert_eq!(came, format!("application/json {bears}"), "{path}");
            }
        }
        let (run, said) = naive(&format!("https://localhost:{port}"), &["--agents", "2"], &[]).await;
        assert!(run["failed"] == 2 && said.contains("log in: ") && said.contains("invalid peer certificate"), "{said}");
    }
}

/// As the plan of JMeter sends: how many streams a server lets a connection have is no bound on the load.
#[tokio::test]
async fn over_tls_each_request_has_a_connection_of_its_own() {
    let identity = Identity::new("at-once");
    // Scripts asked for now, and at most.
    let counts = Arc::new(Mutex::new((0, 0)));
    let noted = Arc::clone(&counts);
    let answers = move |request: Request<Incoming>| {
        let counts = Arc::clone(&noted);
        async move {
            if request.uri().path().ends_with(ID) {
                let count = |more: i32| {
                    let mut counts = counts.lock().unwrap();
                    counts.0 += more;
                    counts.1 = counts.1.max(counts.0);
                };
                count(1);
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                count(-1);
            }
            Ok(Response::new(Full::from(r#"{"access_token":"a-token","id":"of a script"}"#)))
        }
    };
    let port = serve(&identity, &[H2, HTTP1], answers).await;
    let ca = identity.pem.to_str().unwrap();
    let (run, said) = naive(&format!("https://localhost:{port}"), &["--ca", ca, "--agents", "40"], &[]).await;
    assert_eq!((&run["served"], counts.lock().unwrap().1), (&40.into(), 40), "{said}");
}

/// As the run that it explains: over HTTP/2 fewer would arrive at once than of that.
#[tokio::test]
async fn over_tls_an_experiment_sends_as_the_run_does() {
    let identity = Identity::new("experiment");
    let (port, asked) = service(&identity, &[H2, HTTP1]).await;
    let ca = identity.pem.to_str().unwrap();
    let args = ["--diagnose", "--diagnose-requests", "200", "--agents", "20", "--ca", ca];
    let (report, said) = load(&format!("https://localhost:{port}"), &args, &[]).await;
    assert_eq!(report["diagnosis"]["verdict"], "nothing_found", "{said}");
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    assert!(asked.len() > 100, "{}", asked.len());
    for (spoken, path, came) in asked {
        assert_eq!(spoken, Version::HTTP_11, "{path}");
        assert!(came.starts_with("application/json "), "{path}: {came}");
    }
    // Whom it does not trust it does not take for one that is down.
    let (report, said) = load(&format!("https://localhost:{port}"), &["--diagnose", "--agents", "5"], &[]).await;
    assert_eq!(report["diagnosis"]["causes"][0]["name"], "client_made", "{said}");
}

/// Opens the way to any name, as if all were this machine; keeps the heads.
async fn proxy(tls: Option<TlsAcceptor>, refuses: bool) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, noted) = (tls.clone(), Arc::clone(&noted));
            tokio::spawn(async move {
                match tls {
                    Some(tls) => pass_on(tls.accept(stream).await.unwrap(), &noted, refuses).await,
                    None => pass_on(stream, &noted, refuses).await,
                }
            });
        }
    });
    (port, heads)
}

async fn pass_on(mut client: impl AsyncRead + AsyncWrite + Unpin, heads: &Mutex<Vec<String>>, refuses: bool) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let port = head.split([' ', ':']).nth(2).unwrap().parse::<u16>().unwrap();
    heads.lock().unwrap().push(head);
    if refuses {
        let _ = client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").await;
        return;
    }
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

#[tokio::test]
async fn other_machines_are_reached_through_the_proxy_of_the_environment() {
    let identity = Identity::new("proxies");
    let ca = identity.pem.to_str().unwrap();
    for speaks in [&[H2, HTTP1][..], &[HTTP1]] {
        for (scheme, user) in [("http", ""), ("http", "anna:pa%20ss@"), ("https", "anna:pa%20ss@")] {
            let (port, asked) = service(&identity, speaks).await;
            let tls = (scheme == "https").then(|| identity.acceptor(&[H2, HTTP1]));
            let (at, heads) = proxy(tls, false).await;
            let way = format!("{scheme}://{user}localhost:{at}");
            let url = format!("https://{NAME}:{port}");
            let (run, said) = naive(&url, &["--ca", ca, "--agents", "3"], &[("HTTPS_PROXY", &way)]).await;
            assert_eq!(run["served"], 3, "{way}: {said}");
            assert!(asked.lock().unwrap().iter().all(|(spoken, ..)| *spoken == Version::HTTP_11), "{way}");
            let heads = heads.lock().unwrap();
            assert!(!heads.is_empty(), "{way}");
            for head in heads.iter() {
                assert!(head.starts_with(&format!("CONNECT {NAME}:{port} HTTP/1.1\r\n")), "{head}");
                assert_eq!(
                    head.to_lowercase().contains("authorization: basic yw5uytpwysbzcw=="),
                    !user.is_empty(),
                    "{head}"
                );
                assert!(!head.contains("bG9hZC10ZXN0OnMzY3JldA"), "the proxy sees no secret: {head}");
            }
        }
    }
    let (at, _) = proxy(None, true).await;
    let way = format!("http://anna:wrong@127.0.0.1:{at}");
    let (run, said) =
        naive(&format!("https://{NAME}:1"), &["--ca", ca, "--agents", "2"], &[("HTTPS_PROXY", &way)]).await;
    assert!(run["failed"] == 2 && said.contains("log in: ") && said.contains("roxy authorization required"), "{said}");
    assert!(!said.contains("wrong"), "{said}");
}

/// The crate takes it for none.
#[tokio::test]
async fn a_proxy_that_only_the_crate_refuses_does_not_end_the_naive_way() {
    let identity = Identity::new("refused");
    let (port, _) = service(&identity, &[HTTP1]).await;
    let (at, _) = proxy(None, false).await;
    let way = format!("http://localhost:{at}/a-path");
    let args = ["--ca", identity.pem.to_str().unwrap(), "--agents", "2"];
    let (run, said) = naive(&format!("https://{NAME}:{port}"), &args, &[("HTTPS_PROXY", &way)]).await;
    assert_eq!(run["served"], 2, "{said}");
}

/// A service that gives tokens, and sends these bytes for a script and no more.
async fn says(bytes: &'static [u8], then_waits: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = Vec::new();
                while stream.read_buf(&mut asked).await.is_ok_and(|read| read > 0) {
                    if asked.ends_with(b"grant_type=client_credentials") {
                        let token = br#"{"access_token":"an-0ther-token"}"#;
                        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", token.len());
                        stream.write_all(&[head.as_bytes(), token].concat()).await.unwrap();
                        asked.clear();
                    } else if asked.starts_with(b"GET ") && asked.ends_with(b"\r\n\r\n") {
                        stream.write_all(bytes).await.unwrap();
                        if !then_waits {
                            return;
                        }
                    }
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn where_no_whole_answer_comes_it_is_told_why_and_without_the_token() {
    let cases: [(&[u8], bool, &str, &str); 6] = [
        (b"", false, "no answer", "connection closed before message completed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{\"id\":\"half", false, "no answer", "end of file"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{\"id\":\"half", true, "no answer", "the time was over"),
        (b"", true, "no answer", "the time was over"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", false, "no answer", "invalid HTTP"),
        (
            b"HTTP/1.1 403 Forbidden\r\ncontent-length: 54\r\n\r\n{\"code\":\"not.allowed\",\"message\":\"not an-0ther-token!\"}",
            true,
            "403",
            "HTTP 403 \"not.allowed\" \"not [REDACTED]!\"",
        ),
    ];
    for (bytes, then_waits, label, why) in cases {
        let url = says(bytes, then_waits).await;
        let within = if then_waits && label == "no answer" { "2s" } else { "60s" };
        let (run, said) = naive(&url, &["--agents", "3", "--call-timeout", within], &[]).await;
        let failures = run["failures"].as_array().unwrap();
        assert_eq!((failures.len(), &failures[0]["count"]), (1, &3.into()), "of one kind: {run}");
        let example = failures[0]["example"].as_str().unwrap();
        assert!(example.starts_with("get script: ") && example.contains(why), "{why}: {example}");
        assert!(!said.contains("an-0ther-token") && !run.to_string().contains("an-0ther-token"), "{said}");
        let outcomes = run["timeline"]["outcomes"].as_object().unwrap();
        assert!(outcomes.contains_key(label), "{label}: {outcomes:?}");
    }
}
