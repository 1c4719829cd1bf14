//! A Redis of the test's own: Debian's `redis-server`, on a free port, keeping nothing.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

pub(crate) struct Redis {
    port: u16,
    server: Child,
}

impl Redis {
    /// None where none is installed, which is said; in CI it must be.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let Some(server) = serve(port, arguments) else {
            let missing = "redis-server is not installed: apt-get install redis-server";
            assert!(std::env::var_os("CI").is_none(), "{missing}");
            eprintln!("SKIPPED, NOTHING WAS TESTED: {missing}");
            return None;
        };
        Some(Self { port, server })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// It says nothing any more, as if the network were gone, until it is told to `CONT`inue.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.server.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    /// Another at the same address, with nothing in it.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.server = serve(self.port, &[]).unwrap();
    }

    /// The number that this line of `INFO` begins with.
    pub(crate) async fn info(&self, line: &str) -> f64 {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let info: String = redis::cmd("INFO").arg("all").query_async(&mut connection).await.unwrap();
        let told = info.lines().find_map(|told| told.strip_prefix(line)?.strip_prefix(':')).unwrap();
        let number = told.trim_start_matches("calls=").split(',').next().unwrap();
        number.parse().unwrap()
    }

    /// In how many seconds each row goes that nobody touches.
    pub(crate) async fn lifetimes(&self) -> Vec<i64> {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        let mut all = Vec::new();
        for key in keys {
            all.push(redis::cmd("TTL").arg(&key).query_async(&mut connection).await.unwrap());
        }
        all
    }

    /// Every key, field and value that it holds.
    pub(crate) async fn everything(&self) -> Vec<Vec<u8>> {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        let mut all = keys.clone();
        for key in keys {
            let row: Vec<Vec<u8>> = redis::cmd("HGETALL").arg(&key).query_async(&mut connection).await.unwrap();
            all.extend(row);
        }
        all
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing else is under way yet")]
fn serve(port: u16, arguments: &[&str]) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--dir", &std::env::temp_dir().to_string_lossy()]).args(arguments);
    let mut server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(server.try_wait().unwrap().is_none(), "redis-server does not start on port {port}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(server)
}

/// What stands before a Redis and lets its answers through two seconds late, while it is told to be slow.
pub(crate) async fn slow(before: u16, is_slow: Arc<AtomicBool>) -> String {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let is_slow = Arc::clone(&is_slow);
            tokio::spawn(async move {
                let server = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, before)).await.unwrap();
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let mut bytes = vec![0; 65_536];
                while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                    if is_slow.load(Ordering::SeqCst) {
                        sleep(Duration::from_secs(2)).await;
                    }
                    if to_client.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}
