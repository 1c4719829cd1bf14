//! A ZeroMQ DEALER, as far as a Locust worker needs one: one peer, ZMTP 3.0 without encryption, whole messages.
//!
//! Not the crate `zeromq` (0.6): its DEALER neither connects again nor tells that its peer has gone, so that both would have to
//! be written around it, and a length on the wire that no memory holds makes it panic. The protocol is a greeting, a
//! command and a length before each message (<https://rfc.zeromq.org/spec/23/>).

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Messages that wait for a connection, as many as ZeroMQ lets wait.
const WAITING: usize = 1_000;

/// A message larger than this is none of Locust's.
const LARGEST: u64 = 16 << 20;

/// To be connected and greeted.
const GREETING: Duration = Duration::from_secs(5);

/// Between one attempt and the next.
const PAUSE: Duration = Duration::from_millis(500);

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// Keeps a connection, or tries to get one, until it is closed or dropped.
pub(super) struct Dealer {
    outgoing: mpsc::Sender<Vec<u8>>,
    incoming: mpsc::Receiver<Vec<u8>>,
    /// Why there is no connection, while there is none.
    down: watch::Receiver<Option<String>>,
    again: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Dealer {
    /// To an address like `master:5557`, under a name of 1 to 200 bytes.
    pub(super) fn connect(address: &str, name: &str) -> Self {
        let (outgoing, to_send) = mpsc::channel(WAITING);
        let (received, incoming) = mpsc::channel(WAITING);
        let (tell, down) = watch::channel(Some("not connected yet".to_owned()));
        let again = Arc::new(Notify::new());
        let line =
            Line { address: address.to_owned(), name: name.to_owned(), to_send, received, again: Arc::clone(&again) };
        Self { outgoing, incoming, down, again, task: tokio::spawn(line.keep(tell)) }
    }

    /// Sends when there is a connection. False when too much waits for one.
    pub(super) fn send(&self, message: Vec<u8>) -> bool {
        self.outgoing.try_send(message).is_ok()
    }

    /// Whether less waits than half of what may: the rest is for what is said once.
    pub(super) fn has_room(&self) -> bool {
        self.outgoing.capacity() > WAITING / 2
    }

    /// The next message. Safe to be dropped before it is there.
    pub(super) async fn receive(&mut self) -> Option<Vec<u8>> {
        self.incoming.recv().await
    }

    /// Why there is no connection now.
    pub(super) fn down(&self) -> Option<String> {
        self.down.borrow().clone()
    }

    /// Gives the connection up for a new one.
    pub(super) fn connect_again(&self) {
        self.again.notify_one();
    }

    /// Sends what waits, within this time.
    pub(super) async fn close(self, within: Duration) {
        drop((self.outgoing, self.incoming));
        let mut task = self.task;
        if timeout(within, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// What the task that keeps the connection has of it.
struct Line {
    address: String,
    name: String,
    to_send: mpsc::Receiver<Vec<u8>>,
    received: mpsc::Sender<Vec<u8>>,
    again: Arc<Notify>,
}

impl Line {
    async fn keep(mut self, down: watch::Sender<Option<String>>) {
        // Taken from the queue, and maybe not sent.
        let mut unsent = None;
        loop {
            let connected = timeout(GREETING, connected(&self.address, &self.name)).await;
            let silent = |_| {
                Err(io::Error::new(
                    ErrorKind::TimedOut,
                    "no greeting in 5 s: is it the port for workers (5557), and not that of the web page (8089)?",
                ))
            };
            let ended = match connected.unwrap_or_else(silent) {
                Ok(stream) => {
                    down.send_replace(None);
                    self.talk(stream, &mut unsent).await
                }
                Err(_) if self.to_send.is_closed() => return,
                Err(error) => Err(error),
            };
            match ended {
                Ok(()) => return,
                Err(error) => down.send_replace(Some(error.to_string())),
            };
            sleep(PAUSE).await;
        }
    }

    /// Until the connection ends, or all is sent that there will be.
    async fn talk(&mut self, mut stream: TcpStream, unsent: &mut Option<Vec<u8>>) -> io::Result<()> {
        let Self { to_send, received, again, .. } = self;
        let (from, mut to) = stream.split();
        let mut from = BufReader::new(from);
        let send = async {
            loop {
                if unsent.is_none() {
                    *unsent = to_send.recv().await;
                }
                let Some(message) = unsent.as_deref() else { break };
                write_frame(&mut to, 0, message).await?;
                *unsent = None;
            }
            // The peer reads to the end, and then hangs up.
            to.shutdown().await?;
            Ok::<_, io::Error>(())
        };
        let receive = async {
            loop {
                match read_frame(&mut from).await {
                    // Of the parts of a message the last is what is meant. Nobody may be listening any more.
                    Ok((flags, content)) if flags & (COMMAND | MORE) == 0 => drop(received.send(content).await),
                    Ok(_) => {}
                    Err(error) => break error,
                }
            }
        };
        tokio::pin!(send, receive);
        tokio::select! {
            sent = &mut send => sent?,
            error = &mut receive => return Err(error),
            () = again.notified() => return Err(io::Error::other("asked to connect again")),
        }
        receive.await;
        Ok(())
    }
}

async fn connected(address: &str, name: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    greet(&mut stream, name).await?;
    Ok(stream)
}

/// Each says which protocol it speaks, then what it is.
async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), name: &str) -> io::Result<()> {
    let mut ours = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL".to_vec();
    ours.resize(64, 0);
    stream.write_all(&ours).await?;
    let mut theirs = [0; 64];
    stream.read_exact(&mut theirs).await.map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => no_zeromq(),
        _ => error,
    })?;
    let [0xff, _, _, _, _, _, _, _, _, 0x7f, version, _, mechanism @ ..] = theirs else { return Err(no_zeromq()) };
    if version < 3 || !mechanism.starts_with(b"NULL\0") {
        return Err(io::Error::new(ErrorKind::InvalidData, "it speaks an old ZeroMQ, or wants a login"));
    }
    let mut ready = b"\x05READY".to_vec();
    for (property, value) in [("Socket-Type", "DEALER"), ("Identity", name)] {
        ready.push(property.len() as u8);
        ready.extend(property.bytes());
        ready.extend((value.len() as u32).to_be_bytes());
        ready.extend(value.bytes());
    }
    write_frame(stream, COMMAND, &ready).await?;
    let (flags, theirs) = read_frame(stream).await?;
    if flags & COMMAND == 0 || !theirs.starts_with(b"\x05READY") {
        return Err(io::Error::new(ErrorKind::InvalidData, "it does not take this worker in"));
    }
    Ok(())
}

fn no_zeromq() -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        "what answers there speaks no ZeroMQ: give the port for workers (5557), not that of the web page (8089)",
    )
}

async fn write_frame(to: &mut (impl AsyncWrite + Unpin), flags: u8, content: &[u8]) -> io::Result<()> {
    let mut frame = Vec::with_capacity(content.len() + 9);
    match u8::try_from(content.len()) {
        Ok(length) => frame.extend([flags, length]),
        Err(_) => {
            frame.push(flags | LONG);
            frame.extend((content.len() as u64).to_be_bytes());
        }
    }
    frame.extend(content);
    to.write_all(&frame).await?;
    to.flush().await
}

pub(super) async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let flags = from.read_u8().await?;
    let length = if flags & LONG == 0 { u64::from(from.read_u8().await?) } else { from.read_u64().await? };
    if length > LARGEST {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("a message of {length} bytes, which is none")));
    }
    let mut content = Vec::new();
    from.take(length).read_to_end(&mut content).await?;
    if (content.len() as u64) < length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok((flags, content))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A ROUTER as libzmq 4.3 is one, up to the end of the greeting; and the name of who came.
    pub(in super::super) async fn router(listener: &TcpListener) -> (TcpStream, String) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut greeting = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL".to_vec();
        greeting.resize(64, 0);
        stream.write_all(&greeting).await.unwrap();
        let mut theirs = [0; 64];
        stream.read_exact(&mut theirs).await.unwrap();
        assert!(theirs.starts_with(b"\xff") && theirs[9..16] == *b"\x7f\x03\0NULL" && theirs[16..] == [0; 48]);
        let (flags, ready) = read_frame(&mut stream).await.unwrap();
        let dealer = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0";
        assert!(flags == COMMAND && ready.starts_with(dealer), "{ready:?}");
        let name = String::from_utf8(ready[dealer.len() + 1..].to_vec()).unwrap();
        let ours = b"\x05READY\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\0";
        write_frame(&mut stream, COMMAND, ours).await.unwrap();
        (stream, name)
    }

    pub(in super::super) async fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    #[tokio::test]
    async fn messages_of_any_length_go_both_ways_in_their_order() {
        let (listener, address) = listener().await;
        let mut dealer = Dealer::connect(&address, "worker-1");
        let messages: Vec<Vec<u8>> = [0, 1, 255, 256, 100_000].map(|length| vec![7; length]).into();
        // Before there is a connection.
        assert!(messages.iter().all(|message| dealer.send(message.clone())));
        let (mut stream, name) = router(&listener).await;
        assert_eq!(name, "worker-1");
        for message in &messages {
            assert_eq!(read_frame(&mut stream).await.unwrap().1, *message);
            write_frame(&mut stream, MORE, b"a part before it").await.unwrap();
            write_frame(&mut stream, COMMAND, b"\x04PING").await.unwrap();
            write_frame(&mut stream, 0, message).await.unwrap();
            assert_eq!(dealer.receive().await.unwrap(), *message);
        }
        assert_eq!(dealer.down(), None);
    }

    #[tokio::test]
    async fn a_connection_that_is_gone_is_made_again_and_what_was_not_sent_is_sent() {
        let (listener, address) = listener().await;
        let mut dealer = Dealer::connect(&address, "worker-1");
        let (stream, _) = router(&listener).await;
        drop(stream);
        let (mut stream, name) = router(&listener).await;
        assert_eq!(name, "worker-1", "under the same name");
        assert!(dealer.send(b"here".to_vec()));
        assert_eq!(read_frame(&mut stream).await.unwrap().1, b"here");
        // Also where the master asks for it.
        dealer.connect_again();
        let (mut stream, _) = router(&listener).await;
        write_frame(&mut stream, 0, b"again").await.unwrap();
        assert_eq!(dealer.receive().await.unwrap(), b"again");
    }

    #[tokio::test]
    async fn what_waits_is_sent_before_the_end_and_the_end_does_not_wait_for_ever() {
        let (listener, address) = listener().await;
        let dealer = Dealer::connect(&address, "worker-1");
        assert!(dealer.send(b"quit".to_vec()));
        let close = tokio::spawn(dealer.close(Duration::from_secs(60)));
        let (mut stream, _) = router(&listener).await;
        assert_eq!(read_frame(&mut stream).await.unwrap().1, b"quit");
        assert_eq!(read_frame(&mut stream).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        drop(stream);
        close.await.unwrap();
        let nobody = Dealer::connect("127.0.0.1:1", "worker-1");
        assert!(nobody.send(b"quit".to_vec()));
        nobody.close(Duration::from_millis(10)).await;
    }

    #[tokio::test]
    async fn what_is_no_master_is_told_for_what_it_is() {
        let greeting = |version: u8, mechanism: &[u8]| {
            let mut greeting = [&b"\xff\0\0\0\0\0\0\0\x01\x7f"[..], &[version, 0], mechanism].concat();
            greeting.resize(64, 0);
            greeting
        };
        let page = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        for (answer, says) in [
            (page.to_vec(), "speaks no ZeroMQ"),
            (Vec::new(), "speaks no ZeroMQ"),
            (greeting(1, b"NULL"), "old ZeroMQ"),
            (greeting(3, b"CURVE"), "wants a login"),
            ([greeting(3, b"NULL"), b"\x04\x06\x05ERROR".to_vec()].concat(), "does not take"),
        ] {
            let (mut ours, mut theirs) = tokio::io::duplex(4_096);
            theirs.write_all(&answer).await.unwrap();
            theirs.shutdown().await.unwrap();
            let error = greet(&mut ours, "worker-1").await.unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[tokio::test]
    async fn a_length_that_no_message_has_is_an_error_and_takes_no_memory() {
        for length in [LARGEST + 1, u64::MAX] {
            let frame = [&[LONG][..], &length.to_be_bytes()].concat();
            assert_eq!(read_frame(&mut frame.as_slice()).await.unwrap_err().kind(), ErrorKind::InvalidData);
        }
        let cut = [&[LONG][..], &LARGEST.to_be_bytes(), b"not so long"].concat();
        assert_eq!(read_frame(&mut cut.as_slice()).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}
