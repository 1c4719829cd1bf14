//! A server that says exactly these bytes, over a real socket: for what is about the wire itself.

use std::sync::{Arc, Mutex};

use genesys_scripts::{Client, ClientBuilder, Region, RetryPolicy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a request is answered with.
pub(crate) enum Say {
    /// These bytes; the connection is closed after them.
    Bytes(Vec<u8>),
    /// These bytes again and again, until the client has enough.
    Endlessly(Vec<u8>, Vec<u8>),
    /// A reset (RST) after these bytes.
    Reset(Vec<u8>),
    /// These bytes, and nothing more for as long as the client waits.
    Only(Vec<u8>),
    /// Nothing, for as long as the client waits.
    Nothing,
}

/// A whole answer.
pub(crate) fn say(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Say {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Say::Bytes(bytes)
}

/// On tokio's clock alone, while nothing is under way: so that what fails for so long could be taken for an outage.
pub(crate) async fn two_seconds_pass() {
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    tokio::time::resume();
}

/// Listens on loopback; records the head of every request.
pub(crate) struct Wire {
    pub(crate) url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Wire {
    /// Answers the nth request, counted from 0, as `answer` says.
    pub(crate) async fn listen(answer: impl Fn(usize, &str) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (answer, seen) = (Arc::new(answer), Arc::clone(&heads));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                tokio::spawn(async move { serve(stream, &*answer, &seen).await });
            }
        });
        Self { url, heads }
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// A client of this server that waits for no backoff: these tests run on the real clock.
    pub(crate) fn builder(&self) -> ClientBuilder {
        let mut retry = RetryPolicy::default();
        retry.initial_backoff = std::time::Duration::ZERO;
        retry.max_backoff = std::time::Duration::ZERO;
        Client::builder(Region::custom(&self.url, &self.url, &self.url).unwrap()).retry(retry)
    }
}

async fn serve(mut stream: TcpStream, answer: &(dyn Fn(usize, &str) -> Say + Send + Sync), seen: &Mutex<Vec<String>>) {
    let Some(head) = read_request(&mut stream).await else { return };
    let nth = {
        let mut seen = seen.lock().unwrap();
        seen.push(head.clone());
        seen.len() - 1
    };
    match answer(nth, &head) {
        Say::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Say::Endlessly(first, again) => {
            let _ = stream.write_all(&first).await;
            while stream.write_all(&again).await.is_ok() {}
        }
        Say::Reset(bytes) => {
            let _ = stream.write_all(&bytes).await;
            stream.set_zero_linger().unwrap();
        }
        Say::Only(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.read(&mut [0; 1]).await;
        }
        Say::Nothing => {
            let _ = stream.read(&mut [0; 1]).await;
        }
    }
}

/// The head of a request, once its body has arrived as well.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                return Some(head.to_owned());
            }
        }
    }
}
