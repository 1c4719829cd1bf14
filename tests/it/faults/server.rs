//! A server that fails as it is told, over real sockets, until it is well; it knows which of its connections are open.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::common::ID;

/// What it does with a request, one after another; then it waits for the next one on the connection.
#[derive(Clone)]
pub(super) enum Do {
    Say(Vec<u8>),
    /// One byte after another, with pauses.
    Slowly(Vec<u8>),
    /// These bytes for as long as they are taken.
    Endlessly(Vec<u8>),
    /// Nothing, until the client leaves.
    Nothing,
    Close,
    /// RST.
    Reset,
}

pub(super) fn say(bytes: impl AsRef<[u8]>) -> Do {
    Do::Say(bytes.as_ref().to_vec())
}

/// A whole answer, on a connection that is kept.
pub(super) fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Do {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    Do::Say([head.as_bytes(), body].concat())
}

/// What a host says that is well.
pub(super) fn right_body(is_login: bool) -> String {
    match is_login {
        true => r#"{"access_token":"t0ken","token_type":"bearer","expires_in":86400}"#.to_owned(),
        false => format!(r#"{{"id":"{ID}","name":"Inbound"}}"#),
    }
}

/// A request as it arrived: the nth of all, and of its connection, counted from 0.
pub(super) struct Request<'a> {
    pub(super) nth: usize,
    pub(super) nth_of_connection: usize,
    pub(super) head: &'a str,
}

impl Request<'_> {
    pub(super) fn right_answer(&self) -> Vec<Do> {
        vec![answer("200 OK", "", right_body(self.head.starts_with("POST /oauth/token ")))]
    }
}

/// How a connection is served.
pub(super) type Serving = Arc<dyn Fn(TcpStream, Arc<Shared>) -> BoxFuture<'static, io::Result<()>> + Send + Sync>;

pub(super) struct Server {
    pub(super) url: String,
    /// It is the proxy on the way there.
    pub(super) proxy: Option<String>,
    pub(super) shared: Arc<Shared>,
    serving: Serving,
    /// Bound, and not heard yet.
    deaf: Mutex<Option<TcpSocket>>,
    accepting: Mutex<Option<AbortHandle>>,
}

pub(super) struct Shared {
    is_well: AtomicBool,
    heads: Mutex<Vec<String>>,
    connections: AtomicUsize,
    open: watch::Sender<usize>,
}

impl Server {
    /// Nothing listens at its port until it is well.
    pub(super) fn deaf(host: &str, serving: Serving) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("{host}:{}", socket.local_addr().unwrap().port());
        let shared = Shared {
            is_well: AtomicBool::new(false),
            heads: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: watch::Sender::new(0),
        };
        let (deaf, accepting) = (Mutex::new(Some(socket)), Mutex::default());
        Self { url, proxy: None, shared: Arc::new(shared), serving, deaf, accepting }
    }

    pub(super) fn new(host: &str, serving: Serving) -> Self {
        let server = Self::deaf(host, serving);
        server.listen();
        server
    }

    /// HTTP/1.1 in clear.
    pub(super) fn http(act: impl Fn(&Request<'_>) -> Vec<Do> + Send + Sync + 'static) -> Self {
        Self::new("http://127.0.0.1", http(act))
    }

    pub(super) fn well() -> Self {
        Self::http(|request| request.right_answer())
    }

    fn listen(&self) {
        if let Some(socket) = self.deaf.lock().unwrap().take() {
            let listener = socket.listen(1_024).unwrap();
            let task = tokio::spawn(accept(listener, Arc::clone(&self.shared), Arc::clone(&self.serving)));
            *self.accepting.lock().unwrap() = Some(task.abort_handle());
        }
    }

    /// From now on it answers as it should.
    pub(super) fn get_well(&self) {
        self.shared.is_well.store(true, Ordering::SeqCst);
        self.listen();
    }

    pub(super) fn is_deaf(&self) -> bool {
        self.deaf.lock().unwrap().is_some()
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }

    pub(super) fn requests(&self) -> usize {
        self.heads().len()
    }

    /// How many connections it has had.
    pub(super) fn connections(&self) -> usize {
        self.shared.connections()
    }

    /// Waits until no more than so many are open.
    pub(super) async fn open_no_more_than(&self, most: usize) {
        let mut open = self.shared.open.subscribe();
        let soon = Duration::from_secs(10);
        let closed = tokio::time::timeout(soon, open.wait_for(|open| *open <= most)).await.is_ok();
        assert!(closed, "{} connections stay open", *self.shared.open.borrow());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.lock().unwrap().iter().for_each(AbortHandle::abort);
    }
}

impl Shared {
    pub(super) fn is_well(&self) -> bool {
        self.is_well.load(Ordering::SeqCst)
    }

    /// How many connections there have been.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Notes a request, and says how many there were before.
    pub(super) fn got(&self, head: &str) -> usize {
        let mut heads = self.heads.lock().unwrap();
        heads.push(head.to_owned());
        heads.len() - 1
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, serving: Serving) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.open.send_modify(|open| *open += 1);
        let (shared, serving) = (Arc::clone(&shared), serving(stream, Arc::clone(&shared)));
        tokio::spawn(async move {
            let _ = serving.await;
            shared.open.send_modify(|open| *open -= 1);
        });
    }
}

pub(super) fn http(act: impl Fn(&Request<'_>) -> Vec<Do> + Send + Sync + 'static) -> Serving {
    let act = Arc::new(act);
    Arc::new(move |mut stream, shared| {
        let act = Arc::clone(&act);
        Box::pin(async move {
            if let Ended::ToBeReset = converse(&mut stream, &shared, &*act).await? {
                stream.set_zero_linger()?;
            }
            Ok(())
        })
    })
}

pub(super) enum Ended {
    Closed,
    ToBeReset,
}

pub(super) async fn converse(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    shared: &Shared,
    act: &(dyn Fn(&Request<'_>) -> Vec<Do> + Send + Sync),
) -> io::Result<Ended> {
    for nth_of_connection in 0.. {
        let Some(head) = read_request(stream).await? else { break };
        let request = Request { nth: shared.got(&head), nth_of_connection, head: &head };
        let acts = if shared.is_well() { request.right_answer() } else { act(&request) };
        for one in acts {
            match one {
                Do::Say(bytes) => stream.write_all(&bytes).await?,
                Do::Slowly(bytes) => {
                    for byte in bytes {
                        stream.write_all(&[byte]).await?;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                Do::Endlessly(bytes) => loop {
                    stream.write_all(&bytes).await?;
                },
                Do::Nothing => while stream.read(&mut [0; 1_024]).await? > 0 {},
                Do::Close => {
                    stream.shutdown().await?;
                    return Ok(Ended::Closed);
                }
                Do::Reset => return Ok(Ended::ToBeReset),
            }
        }
    }
    Ok(Ended::Closed)
}

/// The head of a request, once its body has arrived as well.
pub(super) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                return Ok(Some(head.to_owned()));
            }
        }
    }
}
