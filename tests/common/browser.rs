//! A headless Chromium, as much of it as a page's test needs. It is driven by its DevTools protocol over the pipe that
//! `--remote-debugging-pipe` opens: a JSON text each, ended by NUL. That takes no WebSocket, no driver and no crate.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A page that does not come to be what it should within this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The protocol is on the descriptors 3 and 4. Root has no sandbox.
const START: &str = r#"[ "$(id -u)" -ne 0 ] || set -- --no-sandbox "$@"; exec "$0" "$@" 3<&0 4>&1 </dev/null 1>&2"#;

pub(crate) struct Browser {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    profile: PathBuf,
    session: Option<String>,
    sent: u64,
    complaints: Vec<String>,
}

impl Browser {
    /// With an empty page. None where no browser is installed, which is said; CI has one.
    pub(crate) async fn start() -> Option<Self> {
        let Some(program) = installed() else {
            assert!(std::env::var_os("CI").is_none(), "no Chromium is installed: apt-get install chromium");
            println!("SKIPPED: no Chromium is installed (or name one in CHROME)");
            return None;
        };
        static BROWSERS: AtomicU32 = AtomicU32::new(0);
        let number = BROWSERS.fetch_add(1, Ordering::Relaxed);
        let profile = std::env::temp_dir().join(format!("headless-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&profile).unwrap();
        let log = std::fs::File::create(profile.join("stderr.txt")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", START]).arg(&program);
        command.args(["--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"]);
        command.arg("--disable-dev-shm-usage").arg(format!("--user-data-dir={}", profile.display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let (to, from) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut browser = Self { process, to, from, profile, session: None, sent: 0, complaints: Vec::new() };
        let target = browser.tell("Target.createTarget", json!({"url": "about:blank"})).await;
        let attached = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.tell("Target.attachToTarget", attached).await;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.tell(domain, json!({})).await;
        }
        Some(browser)
    }

    /// As wide as this, and with this `prefers-color-scheme`.
    pub(crate) async fn look(&mut self, width: u32, scheme: &str) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.tell("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.tell("Emulation.setEmulatedMedia", scheme).await;
    }

    /// Until it is loaded.
    pub(crate) async fn open(&mut self, url: &str) {
        let opened = self.tell("Page.navigate", json!({"url": url})).await;
        assert!(opened.get("errorText").is_none(), "{url}: {opened}");
        self.until("document.readyState === 'complete'").await;
    }

    /// The value of an expression in the page.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        self.evaluated(expression).await.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Waits until this holds in the page, which may be on its way to another.
    pub(crate) async fn until(&mut self, condition: &str) {
        let began = tokio::time::Instant::now();
        while self.evaluated(condition).await != Ok(Value::Bool(true)) {
            if began.elapsed() > PATIENCE {
                panic!("never: {condition}, but: {}", self.value("document.body.innerText").await);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What was said on the console as a warning or an error, and what was thrown, since this was last asked.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints)
    }

    pub(crate) async fn close(mut self) {
        self.session = None;
        self.tell("Browser.close", json!({})).await;
        self.process.wait().await.unwrap();
    }

    async fn evaluated(&mut self, expression: &str) -> Result<Value, String> {
        let expression = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let told = self.try_tell("Runtime.evaluate", expression).await.map_err(|error| error.to_string())?;
        match told.get("exceptionDetails") {
            Some(thrown) => Err(thrown.to_string()),
            None => Ok(told["result"]["value"].clone()),
        }
    }

    async fn tell(&mut self, method: &str, parameters: Value) -> Value {
        self.try_tell(method, parameters).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// A command, and what it is answered.
    async fn try_tell(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.sent += 1;
        let mut command = json!({"id": self.sent, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        let mut text = command.to_string().into_bytes();
        text.push(0);
        self.to.write_all(&text).await.unwrap();
        loop {
            let mut message = self.next().await;
            if message["id"] == self.sent {
                return if message["error"].is_null() {
                    Ok(message["result"].take())
                } else {
                    Err(message["error"].take())
                };
            }
            self.note(&message);
        }
    }

    async fn next(&mut self) -> Value {
        let mut text = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.from.read_until(0, &mut text)).await;
        if !matches!(read, Ok(Ok(1..))) {
            panic!("the browser says nothing: {}", std::fs::read_to_string(self.profile.join("stderr.txt")).unwrap());
        }
        text.pop();
        serde_json::from_slice(&text).unwrap()
    }

    fn note(&mut self, event: &Value) {
        let told = &event["params"];
        let complaint = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => &told["exceptionDetails"]["exception"]["description"],
            Some("Runtime.consoleAPICalled") if ["error", "warning", "assert"].contains(&text(&told["type"])) => {
                &told["args"]
            }
            Some("Log.entryAdded") if ["error", "warning"].contains(&text(&told["entry"]["level"])) => {
                &told["entry"]["text"]
            }
            _ => return,
        };
        self.complaints.push(complaint.as_str().map_or_else(|| complaint.to_string(), str::to_owned));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Of its processes some may still write.
        let _ = self.process.start_kill();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn installed() -> Option<PathBuf> {
    let named = std::env::var_os("CHROME").map(PathBuf::from);
    let places: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let names = ["chromium", "google-chrome", "chromium-browser"];
    let found = names.iter().flat_map(|name| places.iter().map(move |place| place.join(name)));
    named.into_iter().chain(found).find(|path| path.is_file())
}
